from .bundled import (
    LAB_WEIGHTS as LAB_WEIGHTS,
)
from .bundled import (
    lab_weights as lab_weights,
)
from .loading import (
    CheckpointInfo as CheckpointInfo,
)
from .loading import (
    inspect as inspect,
)
from .loading import (
    load as load,
)
from .names import (
    KeyDifferences as KeyDifferences,
)
