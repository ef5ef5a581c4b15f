"""Tiny models of other families, random weights, in evaluation mode."""

import torch
from diffusers import AutoencoderKLCogVideoX, AutoencoderKLHunyuanVideo, AutoencoderKLWan

LEVELS = dict(down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4)
SMALL = dict(block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1)


def cogvideox() -> AutoencoderKLCogVideoX:
    torch.manual_seed(0)
    vae = AutoencoderKLCogVideoX(**LEVELS, **SMALL, norm_num_groups=2, temporal_compression_ratio=4)
    return vae.eval().double()


def hunyuan() -> AutoencoderKLHunyuanVideo:
    torch.manual_seed(0)
    return AutoencoderKLHunyuanVideo(**SMALL, norm_num_groups=4, mid_block_add_attention=True).eval().double()


def wan() -> AutoencoderKLWan:
    torch.manual_seed(0)
    sizes = dict(base_dim=3, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    return AutoencoderKLWan(**sizes, temperal_downsample=[False, True, True]).eval().double()
