from .attribution import (
    LeakAttribution as LeakAttribution,
)
from .attribution import (
    Offender as Offender,
)
from .attribution import (
    attribute_leak as attribute_leak,
)
from .causality import (
    Leaks as Leaks,
)
from .causality import (
    MadeCausal as MadeCausal,
)
from .causality import (
    attribute as attribute,
)
from .causality import (
    leaks as leaks,
)
from .causality import (
    make_causal as make_causal,
)
from .chunks import (
    ChunkInvariance as ChunkInvariance,
)
from .chunks import (
    PlanResult as PlanResult,
)
from .chunks import (
    chunk_invariance as chunk_invariance,
)
from .dependency import (
    FrameDependency as FrameDependency,
)
from .dependency import (
    FutureLeak as FutureLeak,
)
from .dependency import (
    frame_dependency as frame_dependency,
)
from .dependency import (
    future_leak as future_leak,
)
from .equivariance import (
    MOVEMENTS as MOVEMENTS,
)
from .equivariance import (
    LatentEquivariance as LatentEquivariance,
)
from .equivariance import (
    Moved as Moved,
)
from .equivariance import (
    Movement as Movement,
)
from .equivariance import (
    latent_equivariance as latent_equivariance,
)
from .memory import (
    peak_memory as peak_memory,
)
from .receptive_fields import (
    AxisField as AxisField,
)
from .receptive_fields import (
    ReceptiveField as ReceptiveField,
)
from .receptive_fields import (
    receptive_field as receptive_field,
)
from .report import (
    PROBES as PROBES,
)
from .report import (
    Probe as Probe,
)
from .report import (
    ProbeReport as ProbeReport,
)
from .report import (
    Subject as Subject,
)
from .report import (
    probe as probe,
)
from .seams import (
    SeamProfile as SeamProfile,
)
from .seams import (
    StaticVideo as StaticVideo,
)
from .seams import (
    seam_profile as seam_profile,
)
from .seams import (
    static_video_test as static_video_test,
)
from .stitching import (
    StitchError as StitchError,
)
from .stitching import (
    diffusers_stitch_error as diffusers_stitch_error,
)
from .stitching import (
    diffusers_tiling as diffusers_tiling,
)
from .stitching import (
    stitch_error as stitch_error,
)
