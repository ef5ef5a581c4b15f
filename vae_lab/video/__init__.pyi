from . import clips as clips
from .clips import (
    FPS as FPS,
    HELD_OUT_PHOTOS as HELD_OUT_PHOTOS,
    PHOTOS as PHOTOS,
    SYNTHETIC_KINDS as SYNTHETIC_KINDS,
    photo as photo,
    photo_clip as photo_clip,
    synthetic_clip as synthetic_clip,
)
from .frames import (
    DEFAULT_FPS as DEFAULT_FPS,
    Clip as Clip,
    check_frames as check_frames,
    to_frames as to_frames,
    to_tensor as to_tensor,
)
from .reading import (
    VideoInfo as VideoInfo,
    iter_video as iter_video,
    read_video as read_video,
    scan_video as scan_video,
)
from .writing import (
    MAX_FPS as MAX_FPS,
    VideoWriter as VideoWriter,
    check_fps as check_fps,
    check_times as check_times,
    join_videos as join_videos,
    write_video as write_video,
)
