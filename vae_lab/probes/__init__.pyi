from .attribution import (
    LeakAttribution as LeakAttribution,
    Offender as Offender,
    attribute_leak as attribute_leak,
)
from .causality import (
    Leaks as Leaks,
    MadeCausal as MadeCausal,
    attribute as attribute,
    leaks as leaks,
    make_causal as make_causal,
)
from .chunks import (
    ChunkInvariance as ChunkInvariance,
    PlanResult as PlanResult,
    chunk_invariance as chunk_invariance,
)
from .dependency import (
    FrameDependency as FrameDependency,
    FutureLeak as FutureLeak,
    frame_dependency as frame_dependency,
    future_leak as future_leak,
)
from .equivariance import (
    MOVEMENTS as MOVEMENTS,
    LatentEquivariance as LatentEquivariance,
    Moved as Moved,
    Movement as Movement,
    latent_equivariance as latent_equivariance,
)
from .memory import (
    peak_memory as peak_memory,
)
from .receptive_fields import (
    AxisField as AxisField,
    ReceptiveField as ReceptiveField,
    receptive_field as receptive_field,
)
from .report import (
    PROBES as PROBES,
    Probe as Probe,
    ProbeReport as ProbeReport,
    Subject as Subject,
    probe as probe,
)
from .seams import (
    SeamProfile as SeamProfile,
    StaticVideo as StaticVideo,
    seam_profile as seam_profile,
    static_video_test as static_video_test,
)
from .stitching import (
    StitchError as StitchError,
    diffusers_stitch_error as diffusers_stitch_error,
    diffusers_tiling as diffusers_tiling,
    stitch_error as stitch_error,
)
