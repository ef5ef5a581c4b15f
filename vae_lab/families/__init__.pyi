from .codec import (
    Codec as Codec,
    Halves as Halves,
    LatentAndSample as LatentAndSample,
    Streams as Streams,
    class_named as class_named,
    codec_of as codec_of,
    family_of as family_of,
    register as register,
    tiny_model as tiny_model,
)
from .maps import (
    Maps as Maps,
    maps_of as maps_of,
)
from .records import (
    Family as Family,
    Law as Law,
    Reach as Reach,
    each_alone as each_alone,
    first_alone as first_alone,
    in_chunks as in_chunks,
    segments as segments,
)
from .sizes import (
    ClipSize as ClipSize,
    clip_size as clip_size,
)
from .table import (
    FAMILIES as FAMILIES,
    add_family as add_family,
    family_named as family_named,
    frame_groups as frame_groups,
    latent_size as latent_size,
    nearest_legal_frames as nearest_legal_frames,
)
