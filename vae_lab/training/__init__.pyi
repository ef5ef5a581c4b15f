from .config import (
    Stage as Stage,
    TrainConfig as TrainConfig,
)
from .data import (
    Clips as Clips,
    SyntheticClips as SyntheticClips,
    VideoFolder as VideoFolder,
)
from .initialization import (
    start_as_interpolation as start_as_interpolation,
    start_carrying_frames as start_carrying_frames,
)
from .loop import (
    Progress as Progress,
    train as train,
)
from .losses import (
    Objective as Objective,
    kl_per_element as kl_per_element,
)
from .models import (
    new_half as new_half,
)
from .run_folder import (
    RunFolder as RunFolder,
    TrainingError as TrainingError,
    read_log as read_log,
)
from .synthetic import (
    random_clip as random_clip,
)
