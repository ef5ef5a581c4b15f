from .round_trip import (
    RoundTrip as RoundTrip,
)
from .run import (
    OUTPUTS as OUTPUTS,
)
from .run import (
    PARTIAL as PARTIAL,
)
from .run import (
    StoppedError as StoppedError,
)
from .run import (
    prepare_folder as prepare_folder,
)
from .run import (
    reconstruct as reconstruct,
)
from .run import (
    reconstruct_file as reconstruct_file,
)
from .summary import (
    Quality as Quality,
)
from .summary import (
    Summary as Summary,
)
from .summary import (
    describe as describe,
)
from .summary import (
    to_json as to_json,
)
