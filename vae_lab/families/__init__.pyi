from .codec import (
    Codec as Codec,
)
from .codec import (
    Halves as Halves,
)
from .codec import (
    LatentAndSample as LatentAndSample,
)
from .codec import (
    Streams as Streams,
)
from .codec import (
    class_named as class_named,
)
from .codec import (
    codec_of as codec_of,
)
from .codec import (
    family_of as family_of,
)
from .codec import (
    register as register,
)
from .codec import (
    tiny_model as tiny_model,
)
from .maps import (
    Maps as Maps,
)
from .maps import (
    maps_of as maps_of,
)
from .records import (
    Family as Family,
)
from .records import (
    Law as Law,
)
from .records import (
    Reach as Reach,
)
from .records import (
    each_alone as each_alone,
)
from .records import (
    first_alone as first_alone,
)
from .records import (
    in_chunks as in_chunks,
)
from .records import (
    segments as segments,
)
from .sizes import (
    ClipSize as ClipSize,
)
from .sizes import (
    clip_size as clip_size,
)
from .table import (
    FAMILIES as FAMILIES,
)
from .table import (
    add_family as add_family,
)
from .table import (
    family_named as family_named,
)
from .table import (
    frame_groups as frame_groups,
)
from .table import (
    latent_size as latent_size,
)
from .table import (
    nearest_legal_frames as nearest_legal_frames,
)
