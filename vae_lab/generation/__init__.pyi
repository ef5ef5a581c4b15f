from .config import GenerationConfig as GenerationConfig
from .diffusers_transformers import DiffusersTransformer as DiffusersTransformer
from .generator import Generator as Generator, load_generator as load_generator
from .judge import Reading as Reading, Scores as Scores, read_clip as read_clip, score as score
from .prompted_clips import prompted_clip as prompted_clip
from .prompts import Prompt as Prompt, all_prompts as all_prompts, embed as embed
from .rectified_flow import (
    FlowPath as FlowPath,
    add_noise as add_noise,
    draw_timesteps as draw_timesteps,
    flow_loss as flow_loss,
    sample as sample,
    sampling_timesteps as sampling_timesteps,
    shift_timestep as shift_timestep,
    timestep_shift as timestep_shift,
    timestep_transform as timestep_transform,
    velocity as velocity,
    velocity_in as velocity_in,
)
from .stdit import STDiT3 as STDiT3
from .training import train_generator as train_generator
