from .config import (
    Stage as Stage,
)
from .config import (
    TrainConfig as TrainConfig,
)
from .data import (
    Clips as Clips,
)
from .data import (
    SyntheticClips as SyntheticClips,
)
from .data import (
    VideoFolder as VideoFolder,
)
from .initialization import (
    start_as_interpolation as start_as_interpolation,
)
from .initialization import (
    start_carrying_frames as start_carrying_frames,
)
from .loop import (
    Progress as Progress,
)
from .loop import (
    train as train,
)
from .losses import (
    Objective as Objective,
)
from .losses import (
    kl_per_element as kl_per_element,
)
from .models import (
    new_half as new_half,
)
from .run_folder import (
    RunFolder as RunFolder,
)
from .run_folder import (
    TrainingError as TrainingError,
)
from .run_folder import (
    read_log as read_log,
)
from .synthetic import (
    random_clip as random_clip,
)
