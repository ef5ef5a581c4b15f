from .plan import OUTPUTS as OUTPUTS, PARTIAL as PARTIAL, Plan as Plan, prepare_folder as prepare_folder
from .round_trip import RoundTrip as RoundTrip
from .run import (
    StoppedError as StoppedError,
    reconstruct as reconstruct,
    reconstruct_file as reconstruct_file,
    run_plan as run_plan,
)
from .summary import (
    ClipSummary as ClipSummary,
    Quality as Quality,
    Report as Report,
    describe as describe,
    to_json as to_json,
)
