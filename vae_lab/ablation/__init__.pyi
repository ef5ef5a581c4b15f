from .config import (
    GenerationTrialConfig as GenerationTrialConfig,
    TrialConfig as TrialConfig,
    changed as changed,
)
from .metrics import (
    GENERATION_METRICS as GENERATION_METRICS,
    METRICS as METRICS,
    METRICS_BY_FRAME as METRICS_BY_FRAME,
    Metric as Metric,
)
from .results import (
    Ablation as Ablation,
    Prose as Prose,
    interval as interval,
    over_frames as over_frames,
    paired_difference as paired_difference,
    say as say,
    verdict as verdict,
)
from .runner import (
    LIBRARIES as LIBRARIES,
    SCALED as SCALED,
    AblationError as AblationError,
    read_ablation_file as read_ablation_file,
    run_ablation as run_ablation,
)
from .trial import (
    measure as measure,
    measured_clips as measured_clips,
    run_trial as run_trial,
    training_gflop as training_gflop,
)
