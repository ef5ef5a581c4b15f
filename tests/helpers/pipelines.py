"""Pipelines of diffusers with a VideoVAE: a process of its own, as diffusers looks for transformers at its import.

Prints a JSON object: pipeline, chunk and clip length -> [frames that come back, whether shift and scale were applied].
"""

import json

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    WanPipeline,
    WanTransformer3DModel,
)

from tests.helpers import small_vae

LENGTHS = (17, 33, 49)


def seeded(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def wan(vae):
    transformer = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=16,
        ffn_dim=16, num_layers=1, rope_max_seq_len=32,
    ).eval()  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    prompt = dict(prompt_embeds=seeded((1, 7, 16)), negative_prompt_embeds=seeded((1, 7, 16)))
    return WanPipeline(None, None, vae, scheduler, transformer), prompt


def cogvideox(vae):
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=4,
        text_embed_dim=16, num_layers=1, sample_width=2, sample_height=2, sample_frames=9, max_text_seq_length=7,
    ).eval()  # fmt: skip
    prompt = dict(prompt_embeds=seeded((1, 7, 16)), guidance_scale=1.0)
    return CogVideoXPipeline(None, None, vae, transformer, CogVideoXDDIMScheduler()), prompt


def hunyuan(vae):
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1,
        num_single_layers=1, num_refiner_layers=1, patch_size=1, patch_size_t=1, guidance_embeds=True,
        text_embed_dim=16, pooled_projection_dim=8, rope_axes_dim=(2, 4, 4),
    ).eval()  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    prompt = dict(
        prompt_embeds=seeded((1, 7, 16)), pooled_prompt_embeds=seeded((1, 8)),
        prompt_attention_mask=torch.ones(1, 7, dtype=torch.long),
    )  # fmt: skip
    return HunyuanVideoPipeline(None, None, transformer, vae, scheduler, None, None), prompt


def main() -> None:
    results = {}
    for make in (wan, cogvideox, hunyuan):
        for chunk in (17, None):
            torch.manual_seed(0)
            vae = small_vae(micro_frame_size=chunk)
            pipeline, prompt = make(vae)
            pipeline.set_progress_bar_config(disable=True)
            for length in LENGTHS:
                clip, z = (
                    pipeline(
                        **prompt, height=16, width=16, num_frames=length, num_inference_steps=2, output_type=kind,
                        generator=torch.Generator().manual_seed(0),
                    ).frames
                    for kind in ("pt", "latent")
                )  # fmt: skip
                z = z.transpose(1, 2) if make is cogvideox else z
                same = []
                for latents in (vae.denormalize(z), z):
                    with torch.no_grad():
                        frames = pipeline.video_processor.postprocess_video(vae.decode(latents).sample, "pt")
                    same.append(bool(torch.allclose(frames, clip, atol=1e-4)))
                assert same in ([True, False], [False, True]), "neither, or no difference"
                results[f"{make.__name__} {chunk} {length}"] = [clip.shape[1], same[0]]
    print(json.dumps(results))


if __name__ == "__main__":
    main()
