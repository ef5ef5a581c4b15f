from .arrays import (
    LARGEST as LARGEST,
)
from .arrays import (
    check_latent as check_latent,
)
from .arrays import (
    per_channel as per_channel,
)
from .edits import (
    EDITS as EDITS,
)
from .edits import (
    Cell as Cell,
)
from .edits import (
    Channel as Channel,
)
from .edits import (
    Edit as Edit,
)
from .edits import (
    LatentFrames as LatentFrames,
)
from .edits import (
    Number as Number,
)
from .edits import (
    Parameter as Parameter,
)
from .edits import (
    amplify_channel as amplify_channel,
)
from .edits import (
    change_cell as change_cell,
)
from .edits import (
    change_cell_by_std as change_cell_by_std,
)
from .edits import (
    edit as edit,
)
from .edits import (
    interpolate as interpolate,
)
from .edits import (
    shift_channel as shift_channel,
)
from .edits import (
    swap_channel as swap_channel,
)
from .edits import (
    zero_channel as zero_channel,
)
from .effects import (
    CellFootprint as CellFootprint,
)
from .effects import (
    ChannelEffects as ChannelEffects,
)
from .effects import (
    Decode as Decode,
)
from .effects import (
    Effect as Effect,
)
from .effects import (
    Extent as Extent,
)
from .effects import (
    Interpolation as Interpolation,
)
from .effects import (
    Paint as Paint,
)
from .effects import (
    cell_footprint as cell_footprint,
)
from .effects import (
    channel_effects as channel_effects,
)
from .effects import (
    effect as effect,
)
from .effects import (
    interpolation as interpolation,
)
from .effects import (
    paint as paint,
)
from .files import (
    read_latents as read_latents,
)
from .files import (
    write_latents as write_latents,
)
from .statistics import (
    ACTIVE_VARIANCE as ACTIVE_VARIANCE,
)
from .statistics import (
    BETTER as BETTER,
)
from .statistics import (
    BETTER_EVERYWHERE as BETTER_EVERYWHERE,
)
from .statistics import (
    BETTER_WIDER as BETTER_WIDER,
)
from .statistics import (
    FITS as FITS,
)
from .statistics import (
    HYPOTHESES as HYPOTHESES,
)
from .statistics import (
    MISTAKES as MISTAKES,
)
from .statistics import (
    MOST_LOGVAR as MOST_LOGVAR,
)
from .statistics import (
    LatentReport as LatentReport,
)
from .statistics import (
    Moments as Moments,
)
from .statistics import (
    PosteriorStatistics as PosteriorStatistics,
)
from .statistics import (
    ScaleCheck as ScaleCheck,
)
from .statistics import (
    Spectrum as Spectrum,
)
from .statistics import (
    channel_correlation as channel_correlation,
)
from .statistics import (
    channel_moments as channel_moments,
)
from .statistics import (
    expectations as expectations,
)
from .statistics import (
    frame_moments as frame_moments,
)
from .statistics import (
    latent_report as latent_report,
)
from .statistics import (
    posterior_statistics as posterior_statistics,
)
from .statistics import (
    scale_check as scale_check,
)
from .statistics import (
    spatial_spectrum as spatial_spectrum,
)
from .statistics import (
    temporal_spectrum as temporal_spectrum,
)
from .statistics import (
    time_correlation as time_correlation,
)
