"""Trainings of a few steps."""

from tests.helpers import SMALL_SPATIAL
from vae_lab.training.config import Stage, TrainConfig

SPATIAL = dict(SMALL_SPATIAL, norm_num_groups=1, mid_block_add_attention=False, scaling_factor=1.0)
TEMPORAL = dict(base_channels=12, num_res_blocks=1, channel_multipliers=(1, 1, 1), norm_num_groups=1,
                temporal_downsample=(True, True))  # fmt: skip


def spatial_config(steps: int = 6, **changes) -> TrainConfig:
    stage = Stage(name="pixels", steps=steps, learning_rate=1e-3, batch_size=2)
    settings = dict(part="spatial", size=16, model=SPATIAL, checkpoint_every=2, log_every=1, measure_every=3)
    return TrainConfig(**settings | dict(stages=(stage,)) | changes)


def temporal_config(spatial, **changes) -> TrainConfig:
    rate = dict(learning_rate=1e-3, batch_size=2, num_frames=(2, 6))
    stages = (
        Stage(name="identity", steps=4, target="latents", identity_weight=0.1, **rate),
        Stage(name="latents", steps=3, target="latents", **rate),
        Stage(name="pixels", steps=3, **rate),
    )
    settings = dict(part="temporal", size=16, model=TEMPORAL, spatial=str(spatial), cached_clips=4, image_fraction=0.4,
                    checkpoint_every=2, log_every=1, measure_every=4)  # fmt: skip
    return TrainConfig(**settings | dict(stages=stages) | changes)
