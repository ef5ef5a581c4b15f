"""The families of video VAEs that the lab knows, and what can be asked of them without a model.

    latent_size("mochi", 49, 480, 720)                  # (9, 60, 90)
    nearest_legal_frames("cogvideox", 20)               # (17, 24)

Sources: the classes of diffusers 0.42.1, and the lab's own.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..shapes import latent_frames as open_sora_frames
from ..utils.checks import positive_int
from .records import ALONE, BOTH, CLIP, PAST, Family, Law, Reach, each_alone, first_alone, in_chunks, segments

MEAN_STD = "(z - latents_mean) / latents_std, one number a channel"
COSMOS_SCALING = "(z - latents_mean) * sigma_data / latents_std, one number a channel and latent frame"
NO_SCALING = "none: neither the class nor a pipeline of diffusers has statistics"
# Parts of tiny configs
FOUR, FIVE = (8,) * 4, (8,) * 5
STATISTICS = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
PICTURES = {
    "block_out_channels": FOUR, "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4, "norm_num_groups": 2, "layers_per_block": 1,
}  # fmt: skip
LTX_095 = {
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4, "spatio_temporal_scaling": (True,) * 4,
    "decoder_spatio_temporal_scaling": (True,) * 3, "decoder_inject_noise": (False,) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "upsample_residual": (True,) * 3, "upsample_factor": (2, 2, 2), "timestep_conditioning": True,
}  # fmt: skip
WAN_22 = {
    "is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16,
}  # fmt: skip
STABLE_DIFFUSION = {
    "block_out_channels": (128, 256, 512, 512), "down_block_types": ("DownEncoderBlock2D",) * 4, "layers_per_block": 2,
}  # fmt: skip
STACK: dict[str, Any] = {
    "spatial_config": {"block_out_channels": FOUR, "layers_per_block": 1, "norm_num_groups": 2},
    "temporal_config": {"base_channels": 8, "num_res_blocks": 1, "norm_num_groups": 4},
}
COSMOS = {
    "latent_channels": 4, "encoder_block_out_channels": FOUR, "decode_block_out_channels": FOUR,
    "attention_resolutions": (8,), "resolution": 64, "num_layers": 1, "patch_size": 4, "spatial_compression_ratio": 8,
    "latents_mean": [0.0] * 64, "latents_std": [1.0] * 64,
}  # fmt: skip


def _cogvideox(latents: int) -> int:
    return 4 * latents if latents % 2 == 0 else 4 * (latents - 1) + 1


def _octets(frame: int, num_frames: int) -> range:
    """CogVideoX: segments of 8 frames. The first one also has what is over, the 9th frame of clips of 8k + 1."""
    first = num_frames - 8 * (max(1, num_frames // 8) - 1)
    return segments(first, 8).frames(frame, num_frames)


def _into_tiles(frame: int, num_frames: int) -> range:
    """HunyuanVideo's encoder: tiles of 17 frames each 12. Of two tiles' shared latent, the first tile's is kept."""
    if num_frames < 17:
        return CLIP.frames(frame, num_frames)
    start = 12 * max(0, (-(-frame // 4) - 2) // 3)
    return range(start, min(num_frames, start + 17))


def _out_of_tiles(frame: int, num_frames: int) -> range:
    """HunyuanVideo's decoder: tiles of 5 latents each 3, of which the frames 14 to 16 fade into the next tile's."""
    if num_frames < 17:
        return CLIP.frames(frame, num_frames)
    last = max(0, (frame - 2) // 12)
    first = last - (last > 0 and frame - 12 * last < 5)
    return range(max(0, 12 * first - 3), min(num_frames, 12 * last + 17))


def _overlapping(length: int, step: int, group: int = 1) -> Callable[[int, int], range]:
    """What tiles of `length` frames each `step` see. What two tiles share is a fade, but for its first `group` frames.

    Allegro's encoder has tiles of 24 frames each 16: of the 2 latents that two tiles share, the second is a fade. Its
    decoder has tiles of 6 latents each 4: of the 8 frames that two tiles share, 7 are a fade. MiniMax-H3's decoder has
    a window of 22 frames each 17: two windows share 5 frames.
    """

    def frames(frame: int, num_frames: int) -> range:
        place, places, stride = frame // group, length // group, step // group
        first, last = max(0, -(-(place - places + 1) // stride)), max(0, place - 1) // stride
        return range(first * step, min(num_frames, last * step + length))

    return frames


def _segments(longer: Callable[[int], int | None]) -> Law:
    """The law of encoders that take 17 frames, then 16 at a time. longer: latents of clips above 17 frames."""

    def latents(num_frames: int) -> int | None:
        if num_frames > 17 and num_frames % 4 != 1:
            return longer(num_frames)
        return None if num_frames in (2, 3, 4) else (num_frames - 1) // 4 + 1

    return Law("(T - 1) // 4 + 1", latents, lambda latents: 4 * (latents - 1) + 1)


def _is_ltx_095(config: Mapping[str, Any]) -> bool:
    return str(next(iter(config.get("down_block_types", ())), "")).startswith("LTXVideo095")


def _temporal(config: Mapping[str, Any], name: str, default: Any) -> Any:
    """An entry of the config of a VideoVAE's temporal half."""
    return (config.get("temporal_config") or {}).get(name, default)


def _halves_time_twice(config: Mapping[str, Any]) -> bool:
    """Whether a VideoVAE makes one latent frame of four frames, as its records say."""
    return sum(_temporal(config, "temporal_downsample", (True, True))) == 2


def _sees_later(config: Mapping[str, Any], default: bool = False) -> bool:
    """Whether LTX's encoder is causal and its decoder is not, as released. default: the class's decoder_causal."""
    return config.get("encoder_causal", True) and not config.get("decoder_causal", default)


def _pictures(name: str, cls: str, ratio: int, channels: int, tiny: Mapping[str, Any], **more: Any) -> Family:
    """A 2D VAE, which the lab calls frame by frame."""
    return Family(
        name, f"diffusers.{cls}", each_alone(), 1, ratio, channels, tiny, first_frame="as any other",
        time_padding="none", norm="each frame", encoder_sees=ALONE, decoder_sees=ALONE,
        still_exact=True, image_is_first_latent=True, calling="pictures (B, C, H, W)",
        **{"codec": "vae_lab.families.callings.FrameCodec"} | more,
    )  # fmt: skip


def _video(*arguments: Any, **facts: Any) -> Family:
    """A video VAE. Facts that are not given are those of most: causal, frame by frame, the first frame alone."""
    most: dict[str, Any] = dict(
        first_frame="own latent", time_padding="first frame repeated", norm="group norm, each frame",
        encoder_sees=PAST, decoder_sees=PAST, still_exact=True, image_is_first_latent=True,
    )  # fmt: skip
    return Family(*arguments, **most | facts)


OCTETS = Reach("the past and all of its segment (8 frames; the first one has 9 in clips of 8k + 1)", _octets)

FAMILIES: dict[str, Family] = {}  # every known family, by its name in lower case; `add_family` adds to it


def _path(cls: str | type) -> str:
    """The dotted path of a class, which a class defined again has too."""
    return cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"


def add_family(family: Family) -> Family:
    """Make a family known to every command.

    Raises ValueError if a family of another class has that name, another class has that class's name, or another family
    has all configs of the class.
    """
    if not isinstance(family, Family):
        raise ValueError(f"family must be a Family, got {family!r}")
    known = FAMILIES.get(family.name.lower())
    if known is not None and known.cls != family.cls:
        raise ValueError(f"name {family.name!r} is that of another family, of the class {known.cls}")
    for other in FAMILIES.values():
        if other is known or other.class_name != family.class_name:
            continue
        if _path(other.cls) != _path(family.cls):
            raise ValueError(
                f"another class is named {family.class_name}: {_path(other.cls)}, of the family {other.name}"
            )
        if other.matches is family.matches:
            raise ValueError(f"matches must tell {family.name} from {other.name}, which is a family of the same class")
    FAMILIES[family.name.lower()] = family
    return family


for family in (
    _video(
        "Open-Sora 1.2", "vae_lab.video_vae.VideoVAE",
        Law("5 * (T // 17) + ceil((T % 17) / 4)", open_sora_frames, None),
        4, 8, 4, STACK,
        source="Open-Sora v1.2.0, opensora/models/vae/vae.py, VideoAutoencoderPipeline",
        matches=lambda config: _halves_time_twice(config) and _temporal(config, "norm", "group") == "group",
        chunk=17, first_frame="shares its latent with 3 frames of zeros in chunks of 4k + 1", time_padding="zeros",
        norm="group norm over time", encoder_sees=in_chunks(17, CLIP), decoder_sees=in_chunks(17, CLIP),
        still_exact=False, image_is_first_latent=False, scaling="(z - shift) / scale, one number a channel",
        calling="decode(z, num_frames)", released={"spatial_config": {}}, parameters=(178.58, 214.76, 393.34),
    ),
    _video(
        "vae_lab", "vae_lab.video_vae.VideoVAE",
        Law("5 * (T // 17) + ceil((T % 17) / 4)", open_sora_frames, None),
        4, 8, 4, {**STACK, "temporal_config": {**STACK["temporal_config"], "norm": "frame_group"}},
        source="vae_lab/video_vae.py, VideoVAE with norm frame_group", parameters=(178.58, 214.76, 393.34),
        matches=_halves_time_twice, chunk=17,
        encoder_sees=in_chunks(17, PAST), decoder_sees=in_chunks(17, PAST),
        first_frame="shares its latent with 3 frames of zeros in chunks of 4k + 1", time_padding="zeros",
        still_exact=False, scaling="(z - shift) / scale, one number a channel", calling="decode(z, num_frames)",
    ),
    _video(
        "MAGVIT-v2", "vae_lab.magvit_v2.MagvitV2", first_alone(4, "refused"), 4, 8, 18,
        {"latent_channels": 4, "base_channels": 8, "num_res_blocks": 1, "norm_num_groups": 4},
        source="vae_lab/magvit_v2.py, after google/praxis, praxis/layers/video/vqvae.py",
        codec="vae_lab.families.callings.MagvitCodec",
        scaling="none: z is -1 or 1. 18 bits a cell: 18 / (4 * 8 * 8) = 0.07 bits per pixel",
        parameters=(150.32, 225.68, 376.00),
    ),
    _video(
        "CogVideoX", "diffusers.AutoencoderKLCogVideoX", Law("ceil(T / 4)", lambda t: -(-t // 4), _cogvideox), 4, 8, 16,
        {
            "down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4,
            "block_out_channels": FOUR, "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2,
        },
        source="autoencoder_kl_cogvideox.py:956", codec="vae_lab.families.callings.CogVideoXCodec",
        first_frame="own latent in clips of 8k + 1 frames",
        norm="group norm over time", encoder_sees=OCTETS, decoder_sees=OCTETS,
        image_is_first_latent=False,
        scaling="z * scaling_factor (2B: 1.15258426; 5B: 0.7); with invert_scale_latents, first images / it",
        parameters=(92.22, 123.37, 215.58),
    ),
    _video(
        "EasyAnimate", "diffusers.AutoencoderKLMagvit", first_alone(4, "refused"), 4, 8, 16,
        {
            "latent_channels": 4, "block_out_channels": FOUR, "layers_per_block": 1, "norm_num_groups": 2,
            "down_block_types": ("SpatialDownBlock3D", *["SpatialTemporalDownBlock3D"] * 3),
            "up_block_types": ("SpatialUpBlock3D", *["SpatialTemporalUpBlock3D"] * 3),
        },
        source="autoencoder_kl_magvit.py:665",
        scaling="z * scaling_factor (0.7125)", parameters=(99.29, 145.08, 244.38),
        findings=("EasyAnimate's tiles", "EasyAnimate's slices", "EasyAnimate after an illegal length"),
    ),
    _video(
        "Wan 2.1", "diffusers.AutoencoderKLWan", first_alone(4), 4, 8, 16,
        {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, **STATISTICS},
        source="autoencoder_kl_wan.py:964", codec="vae_lab.families.callings.FeatureCacheCodec",
        matches=lambda config: not config.get("is_residual"), time_padding="zeros",
        norm="RMS norm over channels", still_exact=False, scaling=MEAN_STD, parameters=(53.60, 73.30, 126.89),
    ),
    _video(
        "Wan 2.2", "diffusers.AutoencoderKLWan", first_alone(4), 4, 16, 48,
        {
            "base_dim": 4, "decoder_base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1,
            **WAN_22, **STATISTICS,
        },
        source="autoencoder_kl_wan.py:964", codec="vae_lab.families.callings.FeatureCacheCodec",
        matches=lambda config: bool(config.get("is_residual")), time_padding="zeros",
        norm="RMS norm over channels", still_exact=False, scaling=MEAN_STD, parameters=(149.63, 555.05, 704.69),
        released={**WAN_22, "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48},
    ),
    _video(
        "HunyuanVideo", "diffusers.AutoencoderKLHunyuanVideo", first_alone(4), 4, 8, 16,
        {"latent_channels": 4, "block_out_channels": FOUR, "layers_per_block": 1, "norm_num_groups": 4},
        source="autoencoder_kl_hunyuan_video.py:625", norm="group norm over time",
        encoder_sees=Reach("its tile: 17 frames, a new one every 12", _into_tiles),
        decoder_sees=Reach("its tile: 17 frames, a new one every 12; tiles fade over 3 frames", _out_of_tiles),
        image_is_first_latent=False, scaling="z * scaling_factor (0.476986)", parameters=(100.34, 146.14, 246.48),
        findings=("HunyuanVideo's tiles",),
    ),
    _video(
        "HunyuanVideo 1.5", "diffusers.AutoencoderKLHunyuanVideo15", first_alone(4, "refused"), 4, 16, 32,
        {"latent_channels": 4, "block_out_channels": FIVE, "layers_per_block": 1},
        source="autoencoder_kl_hunyuanvideo15.py:634", codec="vae_lab.families.callings.OneClipCodec",
        norm="RMS norm over channels", still_exact=False, calling="one clip at a time",
        scaling="z * scaling_factor (1.03682)", parameters=(389.32, 871.31, 1260.63),
        findings=("HunyuanVideo 1.5 on batches",),
    ),
    _video(
        "LTX 0.9.0 and 0.9.1", "diffusers.AutoencoderKLLTXVideo", first_alone(8), 8, 32, 128,
        {
            "latent_channels": 4, "block_out_channels": FOUR, "decoder_block_out_channels": FOUR,
            "layers_per_block": (1,) * 5, "decoder_layers_per_block": (1,) * 5,
        },
        source="autoencoder_kl_ltx.py:1035", matches=lambda config: not _is_ltx_095(config) and _sees_later(config),
        codec="vae_lab.families.callings.TimestepCodec", norm="RMS norm over channels", decoder_sees=BOTH,
        scaling=MEAN_STD, calling="0.9.1: decode(z, temb); temb is 0.0, the pipelines' default",
        parameters=(180.40, 238.79, 419.19), findings=("LTX's temporal tiles", "LTX's slices"),
    ),
    _video(
        "LTX 0.9.5", "diffusers.AutoencoderKLLTXVideo", first_alone(8, "refused"), 8, 32, 128,
        {
            "latent_channels": 4, "block_out_channels": FIVE, "decoder_block_out_channels": (8, 16, 32),
            "layers_per_block": (1,) * 5, "decoder_layers_per_block": (1,) * 4,
            **LTX_095,
        },
        source="autoencoder_kl_ltx.py:1035",
        codec="vae_lab.families.callings.TimestepCodec", norm="RMS norm over channels",
        decoder_sees=BOTH, scaling=MEAN_STD, calling="decode(z, temb): temb is 0.0, the pipelines' default",
        matches=lambda config: _is_ltx_095(config) and _sees_later(config), parameters=(694.10, 552.81, 1246.91),
        released={
            **LTX_095, "block_out_channels": (128, 256, 512, 1024, 2048), "layers_per_block": (4, 6, 6, 2, 2),
            "decoder_block_out_channels": (256, 512, 1024), "decoder_layers_per_block": (5,) * 4,
        },
        findings=("LTX's temporal tiles", "LTX's compression ratios", "LTX's slices"),
    ),
    _video(
        "LTX 2", "diffusers.AutoencoderKLLTX2Video", first_alone(8, "refused"), 8, 32, 128,
        {
            "latent_channels": 4, "block_out_channels": FOUR, "decoder_block_out_channels": (8, 16, 32),
            "layers_per_block": (1,) * 5, "decoder_layers_per_block": (1,) * 4, "decoder_causal": False,
        },
        source="autoencoder_kl_ltx2.py:1025", least_cells=2, matches=lambda config: _sees_later(config, default=True),
        codec="vae_lab.families.callings.TimestepCodec", norm="RMS norm over channels", decoder_sees=BOTH,
        scaling=MEAN_STD, calling="with timestep_conditioning, decode(z, temb): temb is 0.0",
        released={"decoder_causal": False},
        parameters=(694.10, 528.38, 1222.48),
        findings=("LTX's temporal tiles", "LTX's compression ratios", "LTX's slices"),
    ),
    _video(
        "Mochi", "diffusers.AutoencoderKLMochi", first_alone(6), 6, 8, 12,
        {
            "latent_channels": 4, "encoder_block_out_channels": (32,) * 4, "decoder_block_out_channels": (32,) * 4,
            "layers_per_block": (1,) * 5, **STATISTICS,
        },
        source="autoencoder_kl_mochi.py:655", scaling=MEAN_STD, parameters=(97.22, 362.53, 459.75),
        findings=("Mochi's framewise decoding",),
    ),
    _video(
        "Allegro", "diffusers.AutoencoderKLAllegro",
        Law(
            "T // 4", lambda t: t // 4 if t >= 8 else None, lambda latents: 4 * latents,
            lambda t: t // 4 * 4 if t < 24 else (t - 24) % 16 // 4 * 4,
        ),
        4, 8, 4, {"block_out_channels": FOUR, "layers_per_block": 1, "norm_num_groups": 2, "sample_size": 128},
        source="autoencoder_kl_allegro.py:676",
        codec="vae_lab.families.callings.AllegroCodec", first_frame="as any other",
        time_padding="both ends repeated", norm="group norm over time",
        encoder_sees=Reach("its tile: 24 frames, a new one every 16; tiles fade", _overlapping(24, 16, group=4)),
        decoder_sees=Reach("its tile: 24 frames, a new one every 16; tiles fade", _overlapping(24, 16)),
        still_exact=False, image_is_first_latent=None, scaling="z * scaling_factor (0.13)",
        sizes=lambda height, width: height >= 320 <= width and (height - 320) % 200 == 0 == (width - 320) % 240,
        calling="tiles of 24x320x320 only: height 320 + 200k, width 320 + 240k; decodes to (B, T, C, H, W)",
        parameters=(64.00, 110.95, 174.96),
    ),
    _video(
        "Cosmos 8x8x8", "diffusers.AutoencoderKLCosmos",
        Law("ceil((T - 5) / 8) + 1, at least 1", lambda t: max(1, 1 - (5 - t) // 8), lambda n: 8 * (n - 1) + 1),
        8, 8, 16, {**COSMOS, "temporal_compression_ratio": 8},
        source="autoencoder_kl_cosmos.py:879", matches=lambda config: config.get("temporal_compression_ratio", 8) == 8,
        codec="vae_lab.families.callings.CosmosCodec",
        scaling=COSMOS_SCALING,
        parameters=(42.91, 62.74, 105.65), findings=("Cosmos' tiling",),
    ),
    _video(
        "Cosmos 4x8x8", "diffusers.AutoencoderKLCosmos", first_alone(4, "padded"), 4, 8, 16,
        {**COSMOS, "temporal_compression_ratio": 4},
        source="autoencoder_kl_cosmos.py:879", matches=lambda config: config.get("temporal_compression_ratio") == 4,
        codec="vae_lab.families.callings.CosmosCodec",
        scaling=COSMOS_SCALING, findings=("Cosmos' tiling",),
        parameters=(42.91, 62.74, 105.65),
    ),
    _video(
        "VidTok causal", "diffusers.AutoencoderVidTok", first_alone(4), 4, 8, 4,
        {"ch": 8, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1},
        source="autoencoder_vidtok.py:938", matches=lambda config: config.get("is_causal", True),
        codec="vae_lab.families.callings.VidTokCodec", norm="layer norm over channels",
        decoder_sees=Reach("the past and, after frame 0, 3 more frames", lambda t, n: range(min(n, t + 4 if t else 1))),
        scaling=NO_SCALING, calling="forward repeats the first frame 3 times before encode; decode returns a tensor",
        parameters=(69.26, 88.19, 157.45), findings=("VidTok's tiles",),
    ),
    _video(
        "VidTok", "diffusers.AutoencoderVidTok",
        Law("T // 4", lambda t: t // 4 or None, lambda latents: latents // 4 * 16 or None), 4, 8, 4,
        {"ch": 8, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "is_causal": False},
        source="autoencoder_vidtok.py:938", matches=lambda config: not config.get("is_causal", True),
        codec="vae_lab.families.callings.VidTokCodec", first_frame="as any other", time_padding="both ends",
        norm="layer norm over channels", encoder_sees=BOTH, decoder_sees=BOTH, still_exact=False,
        image_is_first_latent=None, scaling=NO_SCALING, calling="decode returns a tensor", findings=("VidTok's tiles",),
        parameters=(69.26, 88.19, 157.45), released={"is_causal": False},
    ),
    _video(
        "SVD", "diffusers.AutoencoderKLTemporalDecoder", each_alone(), 1, 8, 4,
        {"block_out_channels": (32,) * 4, "down_block_types": ("DownEncoderBlock2D",) * 4, "layers_per_block": 1},
        source="autoencoder_kl_temporal_decoder.py:138", codec="vae_lab.families.callings.TemporalDecoderCodec",
        first_frame="as any other", time_padding="zeros at both ends, in the decoder", norm="group norm over time",
        encoder_sees=ALONE, decoder_sees=CLIP, scaling="z * scaling_factor (0.18215)",
        calling="encodes frames (B * T, C, H, W), decodes them with num_frames", parameters=(34.16, 63.58, 97.74),
        released=STABLE_DIFFUSION,
    ),
    _video(
        "Qwen-Image", "diffusers.AutoencoderKLQwenImage", first_alone(4), 4, 8, 16,
        {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, **STATISTICS},
        source="autoencoder_kl_qwenimage.py:673", codec="vae_lab.families.callings.FeatureCacheCodec",
        time_padding="zeros", norm="RMS norm over channels", still_exact=False,
        scaling=MEAN_STD, parameters=(53.60, 73.30, 126.89),
    ),
    _video(
        "Qwen-Image 2.1", "diffusers.AutoencoderKLQwenImage21",
        Law("1, for pictures only", lambda t: 1 if t == 1 else None, lambda n: n if n == 1 else None), 1, 16, 64,
        {"base_dim": 4, "decoder_base_dim": 4, "z_dim": 4, "dim_mult": [1] * 5, "num_res_blocks": 1, **STATISTICS},
        source="autoencoder_kl_qwenimage21.py:977", codec="vae_lab.families.callings.PictureCodec",
        first_frame="there is no other", time_padding="none", norm="RMS norm over channels", still_exact=None,
        image_is_first_latent=None, scaling=MEAN_STD, calling="RGBA pictures (B, 4, 1, H, W)",
        parameters=(78.68, 259.04, 337.74), findings=("Qwen-Image 2.1 on clips",),
    ),
    _video(
        "KVAE", "diffusers.AutoencoderKLKVAEVideo",
        replace(_segments(lambda t: None), decoded=lambda n: 4 * (n - 1) + 1 - 3 * (n > 2 and n % 4 == 2)), 4, 8, 16,
        {"ch": 32, "ch_mult": (1, 1, 1, 1), "num_res_blocks": 1, "z_channels": 4},
        source="autoencoder_kl_kvae_video.py:707", norm="group norm over segments of 17, then 16 frames",
        encoder_sees=segments(17, 16), decoder_sees=segments(17, 16), image_is_first_latent=False, scaling=NO_SCALING,
        parameters=(250.38, 367.60, 617.98), findings=("KVAE's lost frames", "KVAE's posterior"),
    ),
    _video(
        "Kandinsky 6 SR", "diffusers.Kandinsky6SRVAE",
        _segments(lambda t: 1 - (1 - t) // 4 if t % 16 in (4, 7) else None), 4, 16, 64,
        {
            "latent_channels": 4, "encoder_block_out_channels": FIVE, "decoder_block_out_channels": FIVE,
            "layers_per_block": 1,
        },
        source="autoencoder_kandinsky6_sr.py:516", codec="vae_lab.families.callings.Kandinsky6Codec",
        calling="pixels / 128 - 1, as its pipeline computes",
        norm="RMS norm over channels", scaling="z * scaling_factor (0.910344)",
        parameters=(275.81, 1463.07, 1738.88), findings=("Kandinsky 6 SR's longer clips",),
    ),
    _video(
        "MiniMax-H3", "diffusers.AutoencoderKLMiniMaxH3",
        Law(
            "5 * ceil(T / 17) - 3, or 1 if T = 1", lambda t: 1 if t == 1 else 5 * -(-t // 17) - 3,
            lambda latents: None if latents < 3 else (latents + 3) // 5 * 17 - 12,
        ),
        4, 16, 24,
        {
            "latent_channels": 4, "block_out_channels": (8,) * 6, "layers_per_block": 1, "norm_num_groups": 2,
            "decoder_num_layers": 1, "decoder_num_attention_heads": 2, "decoder_attention_head_dim": 32, **STATISTICS,
        },
        source="autoencoder_kl_minimax_h3.py:505", least_cells=2, codec="vae_lab.families.callings.MiniMaxCodec",
        calling="pixels as ImageNet's are normalized: ([0, 1] - mean) / std, one number a channel",
        chunk=17, time_padding="zeros, in each chunk of 17", norm="group norm, each frame",
        encoder_sees=in_chunks(17, PAST), still_exact=False, scaling=MEAN_STD,
        decoder_sees=Reach("its window of 22 frames; windows overlap by 5", _overlapping(22, 17)),
        parameters=(180.34, 2423.53, 2603.87), findings=("MiniMax-H3 up to 17 frames",),
    ),
    _video(
        "HunyuanImage refiner", "diffusers.AutoencoderKLHunyuanImageRefiner", each_alone(), 1, 16, 32,
        {"latent_channels": 4, "block_out_channels": FIVE, "layers_per_block": 1},
        source="autoencoder_kl_hunyuanimage_refiner.py:593", encoder_sees=CLIP, decoder_sees=CLIP,
        norm="RMS norm over channels", image_is_first_latent=False, scaling="z * scaling_factor (1.03682)",
        parameters=(389.32, 871.31, 1260.63), findings=("HunyuanImage refiner's tiles",),
    ),
    _pictures(
        "AutoencoderKL", "AutoencoderKL", 8, 4, PICTURES, source="autoencoder_kl.py:36",
        scaling="z * scaling_factor (SD 1 and 2: 0.18215; SDXL: 0.13025)", parameters=(34.16, 49.49, 83.65),
        released={**STABLE_DIFFUSION, "up_block_types": ("UpDecoderBlock2D",) * 4},
    ),
    _pictures(
        "DC-AE", "AutoencoderDC", 32, 32,
        {
            "latent_channels": 4, "attention_head_dim": 2, "encoder_block_out_channels": (8,) * 6,
            "decoder_block_out_channels": (8,) * 6, "encoder_layers_per_block": (1,) * 6,
            "decoder_layers_per_block": (1,) * 6,
        },
        source="autoencoder_dc.py:380", scaling="z * scaling_factor (SANA: 0.41407)",
        parameters=(144.61, 218.28, 362.89),
    ),
    _pictures(
        "Flux2", "AutoencoderKLFlux2", 8, 32, {**PICTURES, "latent_channels": 4}, source="autoencoder_kl_flux2.py:38",
        codec="vae_lab.families.callings.Flux2Codec", parameters=(34.42, 49.62, 84.05),
        scaling="(z - mean) / sqrt(var + batch_norm_eps) of `bn`, one number a channel and place in 2x2 cells",
    ),
    _pictures(
        "HunyuanImage", "AutoencoderKLHunyuanImage", 32, 64,
        {
            "in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (32,) * 6,
            "layers_per_block": 1, "spatial_compression_ratio": 32, "sample_size": 64, "scaling_factor": 0.75289,
        },
        source="autoencoder_kl_hunyuanimage.py:412", scaling="z * scaling_factor (0.75289)",
        findings=("HunyuanImage's tiled encoding",),
        parameters=(145.01, 260.57, 405.58),
        released={
            "in_channels": 3, "out_channels": 3, "latent_channels": 64, "layers_per_block": 2,
            "block_out_channels": (128, 256, 512, 512, 1024, 1024), "spatial_compression_ratio": 32,
            "sample_size": 384,
        },
    ),
    _pictures(
        "TAESD", "AutoencoderTiny", 8, 4,
        {
            "encoder_block_out_channels": FOUR, "decoder_block_out_channels": FOUR,
            "num_encoder_blocks": (1,) * 4, "num_decoder_blocks": (1,) * 4,
        },
        source="autoencoder_tiny.py:40", scaling="none: z is scaled already", parameters=(1.22, 1.22, 2.45),
    ),
):  # fmt: skip
    add_family(family)


def family_named(name: str | Family) -> Family:
    """Return the family of that name, in any case. Raises ValueError with near names if there is none."""
    if isinstance(name, Family):
        return name
    given = str(name).strip().lower()
    if not isinstance(name, str) or given not in FAMILIES:
        begins = [known for known in FAMILIES if given and known.startswith(given)]
        near = begins or difflib.get_close_matches(given, FAMILIES) or list(FAMILIES)
        raise ValueError(f"family must be one of the known ones, such as {', '.join(near)}; got {name!r}")
    return FAMILIES[given]


def latent_size(family: str, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
    """Return latent (frames, height, width) of a clip. Raises ValueError if the family does not take such a clip.

    >>> latent_size("mochi", 49, 480, 720)
    (9, 60, 90)
    """
    record = family_named(family)
    ratio = record.spatial_ratio
    height, width = positive_int("height", height), positive_int("width", width)
    for name, pixels in (("height", height), ("width", width)):
        if pixels % ratio or pixels < record.least_cells * ratio:
            least = f" and at least {record.least_cells * ratio}" if record.least_cells > 1 else ""
            raise ValueError(f"{name} ({pixels}) must be a multiple of {ratio}{least} for {record.name}")
    if not record.sizes(height, width):
        raise ValueError(f"{record.name} does not take {height}x{width}: {record.calling}")
    latents = record.latent_frames(num_frames)
    if latents is None:
        raise ValueError(f"{record.name} {record.fate(num_frames)}")
    return latents, height // ratio, width // ratio


def nearest_legal_frames(family: str, num_frames: int) -> tuple[int, ...]:
    """Return the length if clips of it come back whole, else the nearest lengths below and above.

    >>> nearest_legal_frames("cogvideox", 20), nearest_legal_frames("wan 2.1", 17)
    ((17, 24), (17,))
    """
    return family_named(family).nearest_legal(num_frames)


def frame_groups(family: str, num_frames: int) -> list[range]:
    """Return the frames that each latent frame stands for. Raises ValueError for lengths that do not come back whole.

    >>> [(group.start, group.stop) for group in frame_groups("mochi", 13)]
    [(0, 1), (1, 7), (7, 13)]
    """
    return family_named(family).timeline(num_frames).groups
