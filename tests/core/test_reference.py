"""The temporal VAE a second time, straight from Open-Sora's keys, for configurations that the golden values lack."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import SMALL_SPATIAL
from vae_lab import VideoVAE
from vae_lab.checkpoints.open_sora import to_open_sora_key


class Reference:
    """Functions over a state dict in Open-Sora's names; levels are numbered by width, as there."""

    def __init__(self, state: dict[str, torch.Tensor], levels: int, blocks: int, downsample, groups: int):
        self.state, self.levels, self.blocks, self.downsample, self.groups = state, levels, blocks, downsample, groups

    def conv(self, x, name, stride=1):
        weight, bias = (self.state.get(f"temporal_vae.{name}.conv.{p}") for p in ("weight", "bias"))
        t, h, w = weight.shape[2:]
        x = F.pad(x, (w // 2, w // 2, h // 2, h // 2, (t - 1) + (1 - stride), 0))
        return F.conv3d(x, weight, bias, stride=(stride, 1, 1))

    def norm_act(self, x, name):
        weight, bias = (self.state[f"temporal_vae.{name}.{p}"] for p in ("weight", "bias"))
        return F.silu(F.group_norm(x, self.groups, weight, bias, eps=1e-5))

    def resnets(self, x, name):
        for j in range(self.blocks):
            y = self.conv(self.norm_act(x, f"{name}.{j}.norm1"), f"{name}.{j}.conv1")
            y = self.conv(self.norm_act(y, f"{name}.{j}.norm2"), f"{name}.{j}.conv2")
            x = y + (self.conv(x, f"{name}.{j}.conv3") if x.shape[1] != y.shape[1] else x)
        return x

    def encode(self, x):
        x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % 2 ** sum(self.downsample), 0))
        x = self.conv(x, "encoder.conv_in")
        for i in range(self.levels):
            x = self.resnets(x, f"encoder.block_res_blocks.{i}")
            if i < self.levels - 1 and self.downsample[i]:
                x = self.conv(x, f"encoder.conv_blocks.{i}", stride=2)
        x = self.norm_act(self.resnets(x, "encoder.res_blocks"), "encoder.norm1")
        return self.conv(self.conv(x, "encoder.conv2"), "quant_conv")

    def decode(self, z, num_frames):
        x = self.conv(self.conv(z, "post_quant_conv"), "decoder.conv1")
        x = self.resnets(x, "decoder.res_blocks")
        for i in reversed(range(self.levels)):
            x = self.resnets(x, f"decoder.block_res_blocks.{i}")
            if i > 0 and self.downsample[i - 1]:
                x = self.conv(x, f"decoder.conv_blocks.{i - 1}")
                x = torch.stack([x[:, 0::2], x[:, 1::2]], dim=3).flatten(2, 3)  # (c f) t -> c (t f)
        x = self.conv(self.norm_act(x, "decoder.norm1"), "decoder.conv_out")
        return x[:, :, -num_frames % 2 ** sum(self.downsample) :]


@pytest.mark.parametrize(
    ("multipliers", "downsample", "blocks"),
    [
        ((1, 2, 2, 4), (False, True, True), 2),
        ((1, 2, 2, 4), (True, True, False), 1),
        ((1, 3, 2), (True, False), 3),
        ((2, 1, 3, 1), (True, True, True), 1),
        ((2, 1), (False,), 1),
    ],
)
@pytest.mark.parametrize("frames", [1, 6, 17])
def test_other_configurations(multipliers, downsample, blocks, frames):
    temporal = dict(
        base_channels=4, norm_num_groups=2, channel_multipliers=multipliers, temporal_downsample=downsample,
        num_res_blocks=blocks,
    )  # fmt: skip
    vae = VideoVAE(SMALL_SPATIAL, temporal, micro_frame_size=7).double()
    for parameter in vae.temporal.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    levels = len(multipliers)
    state = {to_open_sora_key(key, levels): value for key, value in vae.state_dict().items()}
    reference = Reference(state, levels, blocks, downsample, groups=2)
    x = torch.randn(2, 4, frames, 3, 2, dtype=torch.double)
    with torch.no_grad():
        moments = reference.encode(x)
        torch.testing.assert_close(vae.temporal.encode(x).latent_dist.mean, moments[:, :4])
        torch.testing.assert_close(
            vae.temporal.decode(moments[:, :4], frames).sample, reference.decode(moments[:, :4], frames)
        )
        chunks = x.split(7, dim=2)
        z = torch.cat([reference.encode(chunk)[:, :4] for chunk in chunks], dim=2)
        torch.testing.assert_close(vae.encode_spatial_latent(x).latent_dist.mode(), z)
        parts = z.split([reference.encode(chunk).shape[2] for chunk in chunks], dim=2)
        decoded = [reference.decode(part, chunk.shape[2]) for part, chunk in zip(parts, chunks, strict=True)]
        torch.testing.assert_close(vae.decode_spatial_latent(z, frames).sample, torch.cat(decoded, dim=2))


def test_the_second_writing_agrees_with_the_golden_values(golden_vae, golden_cases):
    state = {to_open_sora_key(key, 4): value for key, value in golden_vae.state_dict().items()}
    reference = Reference(state, 4, 1, (False, True, True), groups=4)
    for frames in (1, 5, 35):
        moments = golden_cases[f"T{frames}.temporal_moments"]
        found = reference.encode(golden_cases[f"T{frames}.spatial_latent"])
        torch.testing.assert_close(found, moments, rtol=0, atol=1e-5 * moments.abs().max().item())
        recon = golden_cases[f"T{frames}.temporal_recon"]
        found = reference.decode(moments[:, :4], frames)
        torch.testing.assert_close(found, recon, rtol=0, atol=1e-5 * recon.abs().max().item())
