from . import clips as clips
from .clips import (
    FPS as FPS,
)
from .clips import (
    HELD_OUT_PHOTOS as HELD_OUT_PHOTOS,
)
from .clips import (
    PHOTOS as PHOTOS,
)
from .clips import (
    SYNTHETIC_KINDS as SYNTHETIC_KINDS,
)
from .clips import (
    photo as photo,
)
from .clips import (
    photo_clip as photo_clip,
)
from .clips import (
    synthetic_clip as synthetic_clip,
)
from .frames import (
    DEFAULT_FPS as DEFAULT_FPS,
)
from .frames import (
    Clip as Clip,
)
from .frames import (
    check_frames as check_frames,
)
from .frames import (
    to_frames as to_frames,
)
from .frames import (
    to_tensor as to_tensor,
)
from .reading import (
    VideoInfo as VideoInfo,
)
from .reading import (
    iter_video as iter_video,
)
from .reading import (
    read_video as read_video,
)
from .reading import (
    scan_video as scan_video,
)
from .writing import (
    MAX_FPS as MAX_FPS,
)
from .writing import (
    VideoWriter as VideoWriter,
)
from .writing import (
    check_fps as check_fps,
)
from .writing import (
    check_times as check_times,
)
from .writing import (
    join_videos as join_videos,
)
from .writing import (
    write_video as write_video,
)
