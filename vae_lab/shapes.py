"""Every size and padding formula of the lab, on plain integers (no torch).

The models call these functions, the notebooks teach them and the command line prints their results, so each formula is
written once. Sizes are in samples: frames along time, pixels or latent cells along space. Frames are numbered from 0.

Source of the formulas: Open-Sora v1.2.0, `opensora/models/vae/vae_temporal.py` and `vae.py`.
"""

from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod

from .utils.checks import check_multiples, integer_within, positive_int
from .utils.text import count as count  # public here: the notebooks print sizes with it

MICRO_FRAME_SIZE = 17  # Open-Sora 1.2 encodes 17 frames at a time (`micro_frame_size` of the released config.json)
TEMPORAL_RATIO = 4  # frames per latent frame: two of the three temporal_downsample flags are set
LATENT_CHANNELS = 4  # channels of latents, of the released 2D half and of the released temporal half alike
SPATIAL_RATIO = 8  # pixels per latent cell and axis: SDXL's 2D VAE halves height and width three times


def kernel_reach(kernel_size: int, dilation: int = 1) -> int:
    """Samples that one window of a convolution spans, gaps included: `dilation * (kernel_size - 1) + 1`.

    >>> kernel_reach(3), kernel_reach(3, dilation=2)
    (3, 5)
    """
    return positive_int("dilation", dilation) * (positive_int("kernel_size", kernel_size) - 1) + 1


def stacked_reach(layers: Sequence[tuple[int, int, int]]) -> int:
    """Samples that one output of a stack of convolutions sees: `1 + sum of dilation * (kernel_size - 1) * step`.

    layers: (kernel_size, stride, dilation) of each layer, first layer first; `step` is the product of the strides of
    the layers before it. Padding counts as samples.

    >>> stacked_reach([(3, 1, 1)] * 3), stacked_reach([(3, 2, 1)] * 3)
    (7, 15)
    """
    reach = step = 1
    for kernel_size, stride, dilation in layers:
        reach += (kernel_reach(kernel_size, dilation) - 1) * step
        step *= positive_int("stride", stride)
    return reach


def time_padding(kernel_size: int, stride: int = 1, dilation: int = 1) -> int:
    """Frames of padding for a causal convolution, all in front: `dilation * (kernel_size - 1) + (1 - stride)`.

    The first term keeps output 0 from seeing later frames. `1 - stride` moves every window to the *end* of its group of
    `stride` frames, so that each group of inputs gives one output.

    >>> time_padding(3), time_padding(3, stride=2), time_padding(3, dilation=2)
    (2, 1, 4)
    """
    reach, stride = kernel_reach(kernel_size, dilation), positive_int("stride", stride)
    if stride > reach:
        raise ValueError(
            f"stride ({stride}) must not be larger than the kernel's reach dilation * (kernel_size - 1) + 1 = {reach} "
            f"in time: the padding would be {reach - stride}, which drops frames"
        )
    return reach - stride


def same_padding(kernel_size: int, dilation: int = 1) -> int:
    """Pixels of padding on *each* side in height or width: `dilation * (kernel_size // 2)`, for odd kernel sizes.

    >>> same_padding(3), same_padding(5, dilation=2)
    (1, 4)
    """
    kernel_size, dilation = positive_int("kernel_size", kernel_size), positive_int("dilation", dilation)
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size in height and width must be odd, got {kernel_size}")
    return dilation * (kernel_size // 2)


def conv_output_size(size: int, kernel_size: int, stride: int = 1, dilation: int = 1, padding: int = 0) -> int:
    """Outputs along one axis: `(size + padding - dilation * (kernel_size - 1) - 1) // stride + 1`.

    padding: total of both sides. This is torch.nn.Conv3d's formula; like torch, it refuses an output size below 1.

    >>> conv_output_size(16, kernel_size=3, stride=2, padding=time_padding(3, stride=2))
    8
    """
    size, padding = positive_int("size", size), integer_within("padding", padding, 0)
    stride, reach = positive_int("stride", stride), kernel_reach(kernel_size, dilation)
    if size + padding < reach:
        raise ValueError(f"size ({size}) plus padding ({padding}) must be at least the kernel's reach ({reach})")
    return (size + padding - reach) // stride + 1


def front_padding(num_frames: int, temporal_ratio: int = TEMPORAL_RATIO) -> int:
    """Zero frames in front of a clip or chunk, which make its length divisible: `-num_frames mod temporal_ratio`.

    >>> [front_padding(t) for t in (1, 4, 17)]
    [3, 0, 3]
    """
    return -positive_int("num_frames", num_frames) % positive_int("temporal_ratio", temporal_ratio)


def chunk_lengths(num_frames: int, micro_frame_size: int | None = MICRO_FRAME_SIZE) -> list[int]:
    """Frames in each independently encoded chunk; None means one chunk of all frames.

    >>> chunk_lengths(35), chunk_lengths(35, None)
    ([17, 17, 1], [35])
    """
    num_frames = positive_int("num_frames", num_frames)
    if micro_frame_size is None:
        return [num_frames]
    micro_frame_size = positive_int("micro_frame_size", micro_frame_size)
    full, rest = num_frames // micro_frame_size, num_frames % micro_frame_size  # torch cannot compile divmod
    return [micro_frame_size] * full + [rest] * (rest > 0)


def latent_frames(
    num_frames: int, temporal_ratio: int = TEMPORAL_RATIO, micro_frame_size: int | None = MICRO_FRAME_SIZE
) -> int:
    """Number of latent frames of a clip: the sum over its chunks of `ceil(length / temporal_ratio)`.

    >>> latent_frames(51), latent_frames(51, micro_frame_size=None)
    (15, 13)
    """
    num_frames, ratio = positive_int("num_frames", num_frames), positive_int("temporal_ratio", temporal_ratio)
    chunk = num_frames if micro_frame_size is None else positive_int("micro_frame_size", micro_frame_size)
    return num_frames // chunk * -(-chunk // ratio) + -(-(num_frames % chunk) // ratio)  # -(-a // b): a / b, rounded up


def latent_chunks(
    num_frames: int, temporal_ratio: int = TEMPORAL_RATIO, micro_frame_size: int | None = MICRO_FRAME_SIZE
) -> list[tuple[int, int]]:
    """(latent frames, frames) of each chunk: how many the decoder takes at once, and how many it returns.

    >>> latent_chunks(35)
    [(5, 17), (5, 17), (1, 1)]
    """
    return [
        (latent_frames(length, temporal_ratio, None), length) for length in chunk_lengths(num_frames, micro_frame_size)
    ]


def frame_range(
    num_latent_frames: int, temporal_ratio: int = TEMPORAL_RATIO, micro_frame_size: int | None = MICRO_FRAME_SIZE
) -> range:
    """The lengths of the clips with `num_latent_frames` latent frames, all of which their decoder accepts.

    >>> frame_range(5), frame_range(6)
    (range(17, 18), range(18, 22))
    """
    num_latent_frames = positive_int("num_latent_frames", num_latent_frames)
    temporal_ratio = positive_int("temporal_ratio", temporal_ratio)
    longest = num_latent_frames * temporal_ratio
    if micro_frame_size is None:
        return range(longest - temporal_ratio + 1, longest + 1)
    micro_frame_size = positive_int("micro_frame_size", micro_frame_size)
    per_chunk = latent_frames(micro_frame_size, temporal_ratio, None)
    chunks, rest = (num_latent_frames - 1) // per_chunk, (num_latent_frames - 1) % per_chunk
    before = chunks * micro_frame_size
    return range(before + rest * temporal_ratio + 1, before + min((rest + 1) * temporal_ratio, micro_frame_size) + 1)


def frame_groups(
    num_frames: int, temporal_ratio: int = TEMPORAL_RATIO, micro_frame_size: int | None = MICRO_FRAME_SIZE
) -> list[range]:
    """The frames that each latent frame stands for, in order. Front padding shortens the *first* group of a chunk.

    >>> [(group.start, group.stop) for group in frame_groups(17)]
    [(0, 1), (1, 5), (5, 9), (9, 13), (13, 17)]
    """
    groups, start, temporal_ratio = [], 0, positive_int("temporal_ratio", temporal_ratio)
    for length in chunk_lengths(num_frames, micro_frame_size):
        stops = range(temporal_ratio - front_padding(length, temporal_ratio), length + 1, temporal_ratio)
        groups += [range(start + max(0, stop - temporal_ratio), start + stop) for stop in stops]
        start += length
    return groups


def latent_size(
    size: Sequence[int],
    temporal_ratio: int = TEMPORAL_RATIO,
    spatial_ratio: int = SPATIAL_RATIO,
    micro_frame_size: int | None = MICRO_FRAME_SIZE,
) -> tuple[int, int, int]:
    """Latent (frames, height, width) of a clip of `size` (T, H, W); H and W must be multiples of `spatial_ratio`.

    >>> latent_size((51, 256, 256))
    (15, 32, 32)
    """
    if len(size) != 3:
        raise ValueError(f"size must be (T, H, W), got {tuple(size)}")
    num_frames, height, width = map(positive_int, ("num_frames", "height", "width"), size)
    spatial_ratio = positive_int("spatial_ratio", spatial_ratio)
    check_multiples((height, width), spatial_ratio)
    return latent_frames(num_frames, temporal_ratio, micro_frame_size), height // spatial_ratio, width // spatial_ratio


def padded_size(size: int, multiple: int = SPATIAL_RATIO) -> int:
    """The smallest multiple of `multiple` that is at least `size`, for callers that pad before encoding.

    >>> padded_size(250), padded_size(256)
    (256, 256)
    """
    size = positive_int("size", size)
    return size + -size % positive_int("multiple", multiple)


def compression_ratio(
    size: Sequence[int], latent: Sequence[int], channels: int = 3, latent_channels: int = LATENT_CHANNELS
) -> float:
    """How many times more numbers a clip of `size` (T, H, W) has than its latent of size `latent` (L, h, w).

    >>> compression_ratio((16, 256, 256), latent_size((16, 256, 256), micro_frame_size=None))
    192.0
    """
    numbers = prod(positive_int("size", samples) for samples in (channels, *size))
    return numbers / prod(positive_int("latent", samples) for samples in (latent_channels, *latent))


def encoder_last_seen(groups: Sequence[range]) -> list[int]:
    """The last frame that each latent frame of a causal encoder may see: the last one of its group in `frame_groups`.

    >>> encoder_last_seen(frame_groups(17))
    [0, 4, 8, 12, 16]
    """
    return [group.stop - 1 for group in groups]


def decoder_last_seen(groups: Sequence[range]) -> list[int]:
    """The last latent frame that each frame of a causal decoder may see: the one whose group contains the frame.

    >>> decoder_last_seen(frame_groups(9))
    [0, 1, 1, 1, 1, 2, 2, 2, 2]
    """
    return [latent for latent, group in enumerate(groups) for _ in group]


@dataclass(frozen=True)
class Timeline:
    """How a clip of `num_frames` is divided into chunks of `chunk` frames (None: one) and latents of `ratio` frames.

    A family of models that groups frames in another way subclasses this and overrides `groups`, and `chunk_lengths` if
    its chunks differ too. The other properties follow from these two.

    >>> timeline = Timeline(35)
    >>> timeline.chunk_lengths, timeline.chunk_starts, timeline.num_latents
    ([17, 17, 1], [0, 17, 34], 11)
    """

    num_frames: int
    ratio: int = TEMPORAL_RATIO
    chunk: int | None = MICRO_FRAME_SIZE

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the way a frozen dataclass can turn numpy's integers into ints
        set_field(self, "num_frames", positive_int("num_frames", self.num_frames))
        set_field(self, "ratio", positive_int("temporal_ratio", self.ratio))
        if self.chunk is not None:
            set_field(self, "chunk", positive_int("micro_frame_size", self.chunk))

    @property
    def groups(self) -> list[range]:
        """The frames that each latent frame stands for (`frame_groups`)."""
        return frame_groups(self.num_frames, self.ratio, self.chunk)

    @property
    def chunk_lengths(self) -> list[int]:
        """Frames in each chunk (`chunk_lengths`)."""
        return chunk_lengths(self.num_frames, self.chunk)

    @property
    def chunk_starts(self) -> list[int]:
        """The first frame of each chunk."""
        return [0, *accumulate(self.chunk_lengths[:-1])]

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """(latent frames, frames) of each chunk (`latent_chunks`)."""
        starts = self.chunk_starts
        latents = Counter(bisect(starts, group.start) for group in self.groups)  # by the chunk's number, from 1
        return [(latents[number], length) for number, length in enumerate(self.chunk_lengths, start=1)]

    @property
    def num_latents(self) -> int:
        """Latent frames of the clip."""
        return len(self.groups)
