"""What several tests share: paths, small models, scripts as modules, a canvas's pixels."""

import base64
import importlib.util
import io
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image

from vae_lab import VideoVAE

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"

SMALL_SPATIAL = dict(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4)
SMALL_TEMPORAL = dict(base_channels=4, num_res_blocks=1, channel_multipliers=(1, 1, 2), norm_num_groups=2)


def small_vae(seed: int = 0, temporal: dict | None = None, **config) -> VideoVAE:
    """A VideoVAE of a few thousand random weights; time is halved twice unless `temporal` says otherwise."""
    torch.manual_seed(seed)
    temporal = SMALL_TEMPORAL | dict(temporal_downsample=(True, True)) | (temporal or {})
    return VideoVAE(SMALL_SPATIAL, temporal, **config).eval()


def script(name: str) -> ModuleType:
    """A script of scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def canvas_pixels(canvas) -> np.ndarray:
    """What a canvas of the browser holds, uint8 (H, W, 3), from its own lossless PNG."""
    address = canvas.evaluate("(canvas) => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB"))
