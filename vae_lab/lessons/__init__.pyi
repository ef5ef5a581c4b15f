from .catalogue import question as question, questions as questions
from .lesson_01_padding_arithmetic import reversed_pad as reversed_pad
from .lesson_04_causality import plant_leak as plant_leak
from .lesson_09_families import (
    cost_bars as cost_bars,
    encoded as encoded,
    frames_back as frames_back,
    latent_steps as latent_steps,
    league as league,
    model_cost as model_cost,
    moved as moved,
    nearest_kept as nearest_kept,
    noise_clip as noise_clip,
    outputs_that_differ as outputs_that_differ,
    seconds_of as seconds_of,
)
from .lesson_10_generation import (
    drawn_clips as drawn_clips,
    grain as grain,
    raw_latents as raw_latents,
    sample_grid as sample_grid,
    similarity as similarity,
    transformer_flops as transformer_flops,
    without_temporal_blocks as without_temporal_blocks,
)
from .quiz import Check as Check, Question as Question
