from .config import (
    GenerationTrialConfig as GenerationTrialConfig,
)
from .config import (
    TrialConfig as TrialConfig,
)
from .config import (
    changed as changed,
)
from .metrics import (
    GENERATION_METRICS as GENERATION_METRICS,
)
from .metrics import (
    METRICS as METRICS,
)
from .metrics import (
    METRICS_BY_FRAME as METRICS_BY_FRAME,
)
from .metrics import (
    Metric as Metric,
)
from .results import (
    Ablation as Ablation,
)
from .results import (
    Prose as Prose,
)
from .results import (
    interval as interval,
)
from .results import (
    over_frames as over_frames,
)
from .results import (
    paired_difference as paired_difference,
)
from .results import (
    say as say,
)
from .results import (
    verdict as verdict,
)
from .runner import (
    LIBRARIES as LIBRARIES,
)
from .runner import (
    SCALED as SCALED,
)
from .runner import (
    AblationError as AblationError,
)
from .runner import (
    read_ablation_file as read_ablation_file,
)
from .runner import (
    run_ablation as run_ablation,
)
from .trial import (
    measure as measure,
)
from .trial import (
    measured_clips as measured_clips,
)
from .trial import (
    run_trial as run_trial,
)
from .trial import (
    training_gflop as training_gflop,
)
