from .arithmetic import (
    NUMPY_PAD as NUMPY_PAD,
)
from .arithmetic import (
    block_diagram as block_diagram,
)
from .arithmetic import (
    dependency_diagram as dependency_diagram,
)
from .arithmetic import (
    padding_diagram as padding_diagram,
)
from .arithmetic import (
    size_diagram as size_diagram,
)
from .frames import (
    ERROR_GAIN as ERROR_GAIN,
)
from .frames import (
    LABEL_HEIGHT as LABEL_HEIGHT,
)
from .frames import (
    PANEL_WIDTH as PANEL_WIDTH,
)
from .frames import (
    contact_sheet as contact_sheet,
)
from .frames import (
    error_map as error_map,
)
from .frames import (
    evenly_chosen as evenly_chosen,
)
from .frames import (
    frame_curves as frame_curves,
)
from .frames import (
    latent_pictures as latent_pictures,
)
from .frames import (
    side_by_side as side_by_side,
)
from .frames import (
    training_picture as training_picture,
)
from .latents import (
    channel_effect_bars as channel_effect_bars,
)
from .latents import (
    correlation_matrix as correlation_matrix,
)
from .latents import (
    effect_picture as effect_picture,
)
from .latents import (
    interpolation_picture as interpolation_picture,
)
from .latents import (
    lag_curves as lag_curves,
)
from .latents import (
    latent_filmstrip as latent_filmstrip,
)
from .latents import (
    moment_curves as moment_curves,
)
from .latents import (
    paint_picture as paint_picture,
)
from .latents import (
    posterior_bars as posterior_bars,
)
from .latents import (
    report_picture as report_picture,
)
from .latents import (
    scale_picture as scale_picture,
)
from .latents import (
    short_numbers as short_numbers,
)
from .latents import (
    spectrum_curves as spectrum_curves,
)
from .probes import (
    DECADES as DECADES,
)
from .probes import (
    chunk_differences as chunk_differences,
)
from .probes import (
    dependency_heatmap as dependency_heatmap,
)
from .probes import (
    misplacement_maps as misplacement_maps,
)
from .probes import (
    module_changes as module_changes,
)
from .probes import (
    property_grid as property_grid,
)
from .probes import (
    reach_grid as reach_grid,
)
from .probes import (
    receptive_field_mass as receptive_field_mass,
)
from .probes import (
    seam_curves as seam_curves,
)
from .probes import (
    static_changes as static_changes,
)
from .style import (
    COLOURS as COLOURS,
)
from .style import (
    LINE as LINE,
)
from .style import (
    OTHER_COLOURS as OTHER_COLOURS,
)
from .style import (
    STYLE as STYLE,
)
from .style import (
    WIDTH as WIDTH,
)
from .style import (
    new_axis as new_axis,
)
from .style import (
    new_figure as new_figure,
)
from .style import (
    styled as styled,
)
