from .bundled import (
    LAB_WEIGHTS as LAB_WEIGHTS,
    lab_weights as lab_weights,
)
from .loading import (
    CheckpointInfo as CheckpointInfo,
    inspect as inspect,
    load as load,
)
from .names import (
    KeyDifferences as KeyDifferences,
)
