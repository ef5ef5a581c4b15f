from .arithmetic import (
    explore_padding as explore_padding,
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
    explore_latents as explore_latents,
)
from .widgets import (
    MAX_PICTURE_BYTES as MAX_PICTURE_BYTES,
    TrainingView as TrainingView,
    VideoUpload as VideoUpload,
    Viewer as Viewer,
    save_html as save_html,
)
