from .arithmetic import (
    explore_padding as explore_padding,
)
from .arithmetic import (
    explore_sizes as explore_sizes,
)
from .flow import (
    explore_flow as explore_flow,
)
from .frames import (
    compare_frames as compare_frames,
)
from .latents import (
    LatentViewer as LatentViewer,
)
from .latents import (
    explore_latents as explore_latents,
)
from .widgets import (
    MAX_PICTURE_BYTES as MAX_PICTURE_BYTES,
)
from .widgets import (
    TrainingView as TrainingView,
)
from .widgets import (
    VideoUpload as VideoUpload,
)
from .widgets import (
    Viewer as Viewer,
)
from .widgets import (
    save_html as save_html,
)
