from . import (
    ablation as ablation,
    checkpoints as checkpoints,
    families as families,
    figures as figures,
    generation as generation,
    latents as latents,
    lessons as lessons,
    metrics as metrics,
    probes as probes,
    reconstruct as reconstruct,
    shapes as shapes,
    training as training,
    video as video,
    viewers as viewers,
)
from .ablation import TrialConfig as TrialConfig, run_ablation as run_ablation
from .causal_conv import CausalConv3d as CausalConv3d
from .checkpoints import load as load
from .gaussian import DiagonalGaussian as DiagonalGaussian
from .magvit_v2 import MagvitV2 as MagvitV2
from .metrics import psnr as psnr, ssim as ssim
from .probes import make_causal as make_causal
from .spatial_vae import SpatialVAE as SpatialVAE
from .streaming import StreamingDecoder as StreamingDecoder, StreamingEncoder as StreamingEncoder
from .temporal_vae import TemporalVAE as TemporalVAE
from .video import (
    Clip as Clip,
    clips as clips,
    iter_video as iter_video,
    photo_clip as photo_clip,
    read_video as read_video,
    synthetic_clip as synthetic_clip,
    to_frames as to_frames,
    to_tensor as to_tensor,
    write_video as write_video,
)
from .video_vae import VideoVAE as VideoVAE
