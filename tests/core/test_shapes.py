import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from vae_lab import shapes
from vae_lab.utils.text import count

frames = st.integers(1, 120)
ratios = st.sampled_from([1, 2, 4, 8])
chunks = st.none() | st.integers(1, 40)


def test_the_released_numbers():
    # Open-Sora v1.2.0: 17 frames a chunk give 5 latents; 51 frames give 15 in chunks and 13 without
    assert [shapes.latent_frames(t) for t in (1, 4, 5, 16, 17, 18, 35, 51)] == [1, 1, 2, 4, 5, 6, 11, 15]
    assert shapes.latent_frames(51, micro_frame_size=None) == 13
    assert shapes.latent_size((51, 256, 512)) == (15, 32, 64)
    assert shapes.chunk_lengths(51) == [17, 17, 17]
    assert shapes.chunk_lengths(52) == [17, 17, 17, 1]


@given(frames, ratios, st.integers(1, 40))
def test_chunked_latent_frames_follow_the_reference_formula(t, r, m):
    ceil = -(-m // r), -(-(t % m) // r)
    assert shapes.latent_frames(t, r, m) == (t // m) * ceil[0] + ceil[1]


@given(frames, ratios, chunks)
def test_groups_cover_every_frame_once_and_there_is_one_a_latent(t, r, m):
    groups = shapes.frame_groups(t, r, m)
    assert [frame for group in groups for frame in group] == list(range(t))
    assert len(groups) == shapes.latent_frames(t, r, m)
    assert all(1 <= len(group) <= r for group in groups)


@given(frames, ratios, chunks)
def test_a_short_group_is_the_first_of_its_chunk(t, r, m):
    starts, start = set(), 0
    for length in shapes.chunk_lengths(t, m):
        starts.add(start)
        start += length
    assert all(group.start in starts for group in shapes.frame_groups(t, r, m) if len(group) < r)


@given(st.integers(1, 40), ratios, chunks)
def test_frame_range_is_the_inverse_of_latent_frames(n, r, m):
    longest = n * max(r, m or 1) + (m or 0) + 1
    fitting = [t for t in range(1, longest) if shapes.latent_frames(t, r, m) == n]
    assert list(shapes.frame_range(n, r, m)) == fitting


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 3), st.integers(1, 3), st.integers(0, 6))
def test_conv_output_size_is_torchs(size, kernel, stride, dilation, padding):
    conv = torch.nn.Conv1d(1, 1, kernel, stride, dilation=dilation)
    x = torch.zeros(1, 1, size + padding)
    if size + padding < dilation * (kernel - 1) + 1:
        with pytest.raises(ValueError, match="must be at least the kernel's reach"):
            shapes.conv_output_size(size, kernel, stride, dilation, padding)
    else:
        assert shapes.conv_output_size(size, kernel, stride, dilation, padding) == conv(x).shape[2]


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))
def test_causal_padding_gives_one_output_for_each_group_of_stride_frames(size, kernel, stride, dilation):
    if stride > dilation * (kernel - 1) + 1:
        with pytest.raises(ValueError, match=rf"stride \({stride}\) must not be larger than the kernel's reach"):
            shapes.time_padding(kernel, stride, dilation)
    elif size >= stride:
        padding = shapes.time_padding(kernel, stride, dilation)
        assert shapes.conv_output_size(size, kernel, stride, dilation, padding) == size // stride


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shapes.latent_frames(0), "num_frames must be at least 1, got 0"),
        (lambda: shapes.latent_frames(4.0), "num_frames must be an integer of at least 1, got 4.0"),
        (lambda: shapes.latent_frames("4"), "num_frames must be an integer of at least 1, got '4'"),
        (lambda: shapes.latent_frames(True), "num_frames must be an integer of at least 1, got True"),
        (lambda: shapes.chunk_lengths(5, 0), "micro_frame_size must be at least 1, got 0"),
        (lambda: shapes.latent_size((5, 250, 256)), r"height \(250\) must be a multiple of 8"),
        (lambda: shapes.latent_size((5, 256, 12)), r"width \(12\) must be a multiple of 8"),
        (lambda: shapes.latent_size((5, 256)), r"size must be \(T, H, W\), got \(5, 256\)"),
        (lambda: shapes.latent_size((5, 8, 8), spatial_ratio=0), "spatial_ratio must be at least 1, got 0"),
        (lambda: shapes.latent_size((5, 8, 8), spatial_ratio=-8), "spatial_ratio must be at least 1, got -8"),
        (lambda: shapes.conv_output_size(2.5, 2), "size must be an integer of at least 1, got 2.5"),
        (lambda: shapes.conv_output_size(5, 2, padding=-1), "padding must be an integer of at least 0, got -1"),
        (lambda: shapes.compression_ratio((5, 8, 8), (2, 0, 1)), "latent must be at least 1, got 0"),
        (lambda: shapes.same_padding(4), "kernel_size in height and width must be odd, got 4"),
        (
            lambda: shapes.time_padding(1, 2),
            r"stride \(2\).*reach dilation \* \(kernel_size - 1\) \+ 1 = 1.*would be -1",
        ),
    ],
)
def test_errors_name_argument_value_and_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numpy_integers_are_integers():
    import numpy as np

    n = np.int64
    assert shapes.chunk_lengths(n(35), n(17)) == [17, 17, 1] and type(shapes.chunk_lengths(n(35), n(17))[0]) is int
    assert shapes.latent_size((n(51), n(64), n(64)), n(4), micro_frame_size=n(17)) == (15, 8, 8)
    assert shapes.frame_groups(n(18), n(4), n(17)) == shapes.frame_groups(18)
    assert shapes.frame_range(n(6), n(4), n(17)) == range(18, 22)
    assert shapes.time_padding(n(3), n(2), n(1)) == 1 and shapes.same_padding(n(3)) == 1
    assert shapes.padded_size(np.uint8(250)) == 256 and shapes.front_padding(np.uint8(17)) == 3
    assert count(n(2), "frame") == "2 frames"


@given(frames, ratios, chunks)
def test_a_timeline_is_the_formulas_of_one_clip(t, r, m):
    timeline = shapes.Timeline(t, r, m)
    assert timeline.groups == shapes.frame_groups(t, r, m) and timeline.num_latents == shapes.latent_frames(t, r, m)
    assert timeline.chunk_lengths == shapes.chunk_lengths(t, m) and timeline.chunks == shapes.latent_chunks(t, r, m)
    starts = timeline.chunk_starts
    stops = [start + length for start, length in zip(starts, timeline.chunk_lengths, strict=True)]
    assert [*starts, t] == [0, *stops]


def test_a_long_timeline_makes_its_groups_once_for_all_chunks():
    class Counted(shapes.Timeline):
        calls = 0

        @property
        def groups(self):
            Counted.calls += 1
            return super().groups

    assert Counted(2000).chunks == shapes.latent_chunks(2000) and Counted.calls == 1


def test_a_timeline_is_a_value():
    timeline = shapes.Timeline(np.int64(35))
    assert timeline == shapes.Timeline(35, 4, 17) and hash(timeline) == hash(shapes.Timeline(35))
    assert type(timeline.num_frames) is int and repr(timeline) == "Timeline(num_frames=35, ratio=4, chunk=17)"
    with pytest.raises(AttributeError):
        timeline.chunk = 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "num_frames must be at least 1, got 0"),
        ((5.0,), "num_frames must be an integer"),
        ((5, 0), "temporal_ratio must be at least 1"),
        ((5, 4, 0), "micro_frame_size must be at least 1"),
        ((5, 4, True), "micro_frame_size must be an integer"),
    ],
)
def test_a_timeline_of_wrong_numbers_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        shapes.Timeline(*arguments)
