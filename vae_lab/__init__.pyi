from . import (
    ablation as ablation,
)
from . import (
    checkpoints as checkpoints,
)
from . import (
    families as families,
)
from . import (
    figures as figures,
)
from . import (
    generation as generation,
)
from . import (
    latents as latents,
)
from . import (
    lessons as lessons,
)
from . import (
    metrics as metrics,
)
from . import (
    probes as probes,
)
from . import (
    reconstruct as reconstruct,
)
from . import (
    shapes as shapes,
)
from . import (
    training as training,
)
from . import (
    video as video,
)
from . import (
    viewers as viewers,
)
from .ablation import TrialConfig as TrialConfig
from .ablation import run_ablation as run_ablation
from .causal_conv import CausalConv3d as CausalConv3d
from .checkpoints import load as load
from .gaussian import DiagonalGaussian as DiagonalGaussian
from .magvit_v2 import MagvitV2 as MagvitV2
from .metrics import psnr as psnr
from .metrics import ssim as ssim
from .probes import make_causal as make_causal
from .spatial_vae import SpatialVAE as SpatialVAE
from .streaming import StreamingDecoder as StreamingDecoder
from .streaming import StreamingEncoder as StreamingEncoder
from .temporal_vae import TemporalVAE as TemporalVAE
from .video import (
    Clip as Clip,
)
from .video import (
    clips as clips,
)
from .video import (
    iter_video as iter_video,
)
from .video import (
    photo_clip as photo_clip,
)
from .video import (
    read_video as read_video,
)
from .video import (
    synthetic_clip as synthetic_clip,
)
from .video import (
    to_frames as to_frames,
)
from .video import (
    to_tensor as to_tensor,
)
from .video import (
    write_video as write_video,
)
from .video_vae import VideoVAE as VideoVAE
