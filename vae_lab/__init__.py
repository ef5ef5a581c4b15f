"""vae_lab: Open-Sora 1.2's video VAE, exact and inspectable. Names are imported from their modules at first use."""

from importlib import import_module
from typing import Any

_HOME = {
    "CausalConv3d": "causal_conv",
    "DiagonalGaussian": "gaussian",
    "SpatialVAE": "spatial_vae",
    "TemporalVAE": "temporal_vae",
    "VideoVAE": "video_vae",
    "StreamingEncoder": "streaming",
    "StreamingDecoder": "streaming",
    "load": "checkpoints",
    "make_causal": "causality",
    "run_ablation": "ablation",
    "TrialConfig": "trial_config",
    "Clip": "video",
    "read_video": "video",
    "iter_video": "video",
    "write_video": "video",
    "to_tensor": "video",
    "to_frames": "video",
    "synthetic_clip": "clips",
    "photo_clip": "clips",
    "psnr": "metrics",
    "ssim": "metrics",
}
_MODULES = ("checkpoints", "clips", "diagrams", "figures", "lessons", "metrics", "probes", "shapes", "video", "viewers")

__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    elif name in _MODULES:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
