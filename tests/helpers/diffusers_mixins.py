"""diffusers' tests of its models, on our three classes and on Wan's VAE, which shows what a class of theirs passes.

`tests/core/test_diffusers_mixins.py` gives this file to pytest in a separate process, because diffusers' tests have
marks and warnings that ours may not have. DIFFUSERS_TESTS names a checkout of diffusers.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from diffusers import AutoencoderKLWan

from tests.helpers import SMALL_SPATIAL, SMALL_TEMPORAL
from vae_lab import SpatialVAE, TemporalVAE, VideoVAE

# With plain "cpu" diffusers would skip its tests of training, memory and compilation.
DEVICE = os.environ.setdefault("DIFFUSERS_TEST_DEVICE", "cuda" if torch.cuda.is_available() else "cpu:0")

# The checkout's packages, by another name than ours and without their __init__.py, which would import the tests of
# quantization, LoRA and the like.
for name in ("", ".models", ".models.testing_utils", ".models.autoencoders"):
    package = sys.modules["diffusers_tests" + name] = ModuleType("diffusers_tests" + name)
    package.__path__ = [str(Path(os.environ["DIFFUSERS_TESTS"], "tests", *name.split(".")[1:]))]

MIXINS = [
    getattr(import_module("diffusers_tests.models." + module), name)
    for module, name in (
        ("testing_utils.compile", "TorchCompileTesterMixin"),  # first, because its setup_method does the most
        ("testing_utils.common", "ModelTesterMixin"),
        ("testing_utils.training", "TrainingTesterMixin"),
        ("testing_utils.memory", "MemoryTesterMixin"),
        ("testing_utils.attention", "AttentionTesterMixin"),
        ("autoencoders.testing_utils", "NewAutoencoderTesterMixin"),
        ("testing_utils.common", "BaseModelTesterConfig"),
    )
]


class OfClips(*MIXINS):
    """The tests of a model that reads and writes clips (2, C, T, 16, 16). shape: (C, T)."""

    main_input_name = "sample"
    different_shapes_for_compilation = ((16, 16), (16, 32), (24, 24))
    model_class: type
    shape: tuple[int, int]
    config: dict

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (*self.shape, 16, 16)

    def get_init_dict(self) -> dict:
        return dict(self.config)

    def get_dummy_inputs(self, height: int = 16, width: int = 16) -> dict:
        clip = torch.randn(2, *self.shape, height, width, generator=torch.Generator().manual_seed(0))
        return dict(sample=clip.to(DEVICE))


class TestWan(OfClips):
    """With the config of diffusers' own test of it."""

    model_class, shape = AutoencoderKLWan, (3, 9)
    config = dict(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )


class TestSpatialVAE(OfClips):
    model_class, shape, config = SpatialVAE, (3, 9), SMALL_SPATIAL


class TestTemporalVAE(OfClips):
    model_class, shape = TemporalVAE, (4, 9)
    config = SMALL_TEMPORAL | dict(temporal_downsample=(True, True))


class TestVideoVAE(OfClips):
    """With two chunks."""

    model_class, shape = VideoVAE, (3, 18)
    config = dict(spatial_config=SMALL_SPATIAL, temporal_config=TestTemporalVAE.config)
