import io

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.helpers import ROOT, SMALL_TEMPORAL, small_vae
from vae_lab import SpatialVAE, StreamingDecoder, StreamingEncoder, TemporalVAE, load, read_video, to_tensor

SIZE = (16, 24)


def causal(micro_frame_size: int | None = None, **temporal):
    return small_vae(temporal=dict(norm="frame_group") | temporal, micro_frame_size=micro_frame_size).double()


def clip(frames: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, frames, *SIZE, dtype=torch.double) * 2 - 1


def pieces(x: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
    """x in pieces of these lengths, which begin again at the end of the list."""
    cut, at = [], 0
    while at < x.shape[2]:
        cut.append(x[:, :, at : at + lengths[len(cut) % len(lengths)]])
        at += cut[-1].shape[2]
    return cut


def streamed(vae, x, lengths, latents=(1,), chunked=False):
    """(latents, clip) of a stream fed in these pieces."""
    encoder, decoder = (stream(vae, x.shape[2], chunked) for stream in (StreamingEncoder, StreamingDecoder))
    z = torch.cat([encoder.encode(piece).latent_dist.mode() for piece in pieces(x, lengths)], dim=2)
    encoder.finish()
    y = torch.cat([decoder.decode(piece).sample for piece in pieces(z, latents)], dim=2)
    decoder.finish()
    return z, y


@torch.no_grad()
def whole(vae, x):
    z = vae.encode(x).latent_dist.mode()
    return z, vae.decode(z, x.shape[2]).sample


# ---- exact ---------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    frames=st.integers(1, 40), lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    latents=st.lists(st.integers(1, 5), min_size=1, max_size=3), micro_frame_size=st.sampled_from([None, 7, 17]),
    pad_mode=st.sampled_from(["constant", "replicate"]), flags=st.lists(st.booleans(), min_size=1, max_size=3),
)  # fmt: skip
def test_any_pieces_give_what_the_whole_clip_gives(frames, lengths, latents, micro_frame_size, pad_mode, flags):
    flags = dict(temporal_downsample=flags, channel_multipliers=(1,) * len(flags) + (2,))
    vae = causal(micro_frame_size, pad_mode=pad_mode, **flags)
    x = clip(frames, batch=2)
    tolerances = (1e-12, 1e-11)  # random weights of a 2D decoder make up to ten times as much of rounding
    for found, expected, most in zip(streamed(vae, x, lengths, latents), whole(vae, x), tolerances, strict=True):
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < most


def test_reflection_in_space_alone_needs_no_later_frames():
    vae, x = causal(pad_mode="reflect", time_pad_mode="constant"), clip(9)
    for found, expected in zip(streamed(vae, x, [1, 3]), whole(vae, x), strict=True):
        assert (found - expected).abs().max() < 1e-11


def test_single_precision():
    vae, x = causal().float(), clip(37).float()
    for lengths in ([1], [4], [16], [3, 9]):
        for found, expected in zip(streamed(vae, x, lengths), whole(vae, x), strict=True):
            assert (found - expected).abs().max() < 5e-5 * expected.abs().max()  # random weights, as above


def test_single_precision_of_the_trained_weights():
    vae = load("lab-frame-group")
    x = to_tensor(read_video(ROOT / "data" / "coffee.mp4", num_frames=37, size=(64, 64)).frames)
    for lengths in ([1], [4, 13]):
        for found, expected in zip(streamed(vae, x, lengths), whole(vae, x), strict=True):
            assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("norm", ["group", "frame_group"])
def test_chunked_is_what_encode_and_decode_give(norm):
    vae = small_vae(temporal=dict(norm=norm), micro_frame_size=17).double()
    x = clip(40)
    for found, expected in zip(streamed(vae, x, [1, 11], [2], chunked=True), whole(vae, x), strict=True):
        assert (found - expected).abs().max() < 1e-12


def test_a_temporal_vae_streams_2d_latents():
    vae = causal().temporal
    x = torch.randn(1, 4, 13, 3, 3, dtype=torch.double)
    for found, expected in zip(streamed(vae, x, [2]), whole(vae, x), strict=True):
        assert (found - expected).abs().max() < 1e-12


def test_latents_and_frames_come_as_early_as_they_can():
    vae, x = causal(), clip(17)  # 3 frames of padding: the first latent is frame 0, then every 4 frames another
    encoder, decoder = StreamingEncoder(vae, 17), StreamingDecoder(vae, 17)
    posteriors = [encoder.encode(piece).latent_dist for piece in pieces(x, [1])]
    latents = [posterior.mean.shape[2] for posterior in posteriors]
    assert latents == [1, 0, 0, 0] * 4 + [1]
    frames = [decoder.decode(p.mode()).sample.shape[2] for p in posteriors if p.mean.shape[2]]
    assert frames == [1, 4, 4, 4, 4]
    chunked = StreamingEncoder(small_vae(micro_frame_size=9).double(), 17, chunked=True)
    assert [chunked.encode(x[:, :, t : t + 1]).latent_dist.std.shape[2] for t in range(17)] == [0] * 8 + [3] + [
        0
    ] * 7 + [2]


def test_posteriors_are_those_of_encode():
    vae, x = causal(), clip(9)
    with torch.no_grad():
        expected = vae.encode(x).latent_dist.std
    encoder = StreamingEncoder(vae, 9)
    found = torch.cat([encoder.encode(piece).latent_dist.std for piece in pieces(x, [2])], dim=2)
    assert (found - expected).abs().max() < 1e-12


# ---- the state -----------------------------------------------------------------------------------------------------


def test_a_fork_goes_its_own_way():
    vae, x = causal(), clip(20)
    other = x.clone()
    other[:, :, 10:] *= -1
    encoder = StreamingEncoder(vae, 20)
    begun = encoder.encode(x[:, :, :10]).latent_dist.mode()
    fork = encoder.fork()
    rests = [stream.encode(rest[:, :, 10:]).latent_dist.mode() for stream, rest in ((encoder, x), (fork, other))]
    for rest, source in zip(rests, (x, other), strict=True):
        assert (torch.cat([begun, rest], dim=2) - whole(vae, source)[0]).abs().max() < 1e-12


@pytest.mark.parametrize("chunked", [False, True])
def test_a_state_is_saved_and_restored(chunked):
    vae, x = causal(17), clip(30)
    z, y = whole(vae, x)
    streams = [(StreamingEncoder(vae, 30, chunked), x, z), (StreamingDecoder(vae, 30, chunked), z, y)]
    for stream, given_, expected in streams:
        name = "encode" if isinstance(stream, StreamingEncoder) else "decode"
        outputs = [getattr(stream, name)(given_[:, :, :4])]
        file = io.BytesIO()
        torch.save(stream.state_dict(), file)
        getattr(stream, name)(given_[:, :, 4:6])  # the saved one does not change any more
        file.seek(0)
        again = type(stream)(vae, 30, chunked)
        again.load_state_dict(torch.load(file))  # weights only: nothing but numbers and tensors
        assert again.position == 4
        outputs.append(getattr(again, name)(given_[:, :, 4:]))
        tensors = [o.latent_dist.mode() if hasattr(o, "latent_dist") else o.sample for o in outputs]
        assert (torch.cat(tensors, dim=2) - expected).abs().max() < 1e-12


@pytest.mark.parametrize("half", ["spatial", "temporal"])
def test_an_exception_leaves_the_stream_where_it_was(half, monkeypatch):
    vae, x = causal(), clip(9)
    z, y = whole(vae, x)
    decoder, encoder = StreamingDecoder(vae, 9), StreamingEncoder(vae, 9)
    begun = encoder.encode(x[:, :, :3]).latent_dist.mode(), decoder.decode(z[:, :, :1]).sample

    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as patched:
        layer = vae.spatial.autoencoder.decoder if half == "spatial" else vae.temporal.decoder.up_blocks[1].resnets[0]
        patched.setattr(layer, "forward", fail)
        with pytest.raises(MemoryError):
            decoder.decode(z[:, :, 1:])
        layer = vae.spatial.autoencoder.encoder if half == "spatial" else vae.temporal.encoder.mid_block
        patched.setattr(layer, "forward", fail)
        with pytest.raises(MemoryError):
            encoder.encode(x[:, :, 3:])
    rest = encoder.encode(x[:, :, 3:]).latent_dist.mode(), decoder.decode(z[:, :, 1:]).sample
    for first, second, expected in zip(begun, rest, (z, y), strict=True):
        assert (torch.cat([first, second], dim=2) - expected).abs().max() < 1e-12


def tensors(state) -> int:
    """Numbers that a state holds, in the storage of its tensors too."""
    kept = [value for value in (state["waiting"], *state["past"].values()) if value is not None]
    return sum(value.untyped_storage().nbytes() // value.element_size() for value in kept)


def test_memory_does_not_grow_with_the_length_or_with_the_pieces():
    vae = causal()
    sizes = set()
    for frames, length in ((16, 4), (64, 16), (64, 32)):
        encoder = StreamingEncoder(vae, frames + 4)
        for piece in pieces(clip(frames), [length]):
            encoder.encode(piece)
        sizes.add(tensors(encoder.state_dict()))
    assert len(sizes) == 1 and sizes.pop() > 0


def test_no_gradients_are_kept():
    encoder = StreamingEncoder(causal(), 9)
    mean = encoder.encode(clip(5)).latent_dist.mean
    assert not mean.requires_grad and not any(past.requires_grad for past in encoder.state_dict()["past"].values())


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_group_norm_is_refused_with_the_reason():
    reason = r"norm 'group' takes its statistics over all frames.*chunked=True.*make_causal"
    for vae in (small_vae(), small_vae().temporal):
        for stream in (StreamingEncoder, StreamingDecoder):
            with pytest.raises(ValueError, match=reason):
                stream(vae, 17)


def test_what_cannot_be_streamed():
    with pytest.raises(ValueError, match="vae must be a VideoVAE or a TemporalVAE, got SpatialVAE"):
        StreamingEncoder(SpatialVAE(block_out_channels=(8, 8), norm_num_groups=4), 17)
    with pytest.raises(ValueError, match="chunked needs a VideoVAE with a micro_frame_size"):
        StreamingEncoder(causal(), 17, chunked=True)
    with pytest.raises(ValueError, match='^pad_mode "reflect" pads with later frames'):
        StreamingDecoder(causal(pad_mode="reflect"), 17)
    with pytest.raises(ValueError, match='^time_pad_mode "reflect" pads with later frames'):
        StreamingDecoder(causal(pad_mode="constant", time_pad_mode="reflect"), 17)
    with pytest.raises(ValueError, match="is_causal=False needs later frames"):
        StreamingEncoder(causal(is_causal=False), 17)
    with pytest.raises(ValueError, match="num_frames must be at least 1, got 0"):
        StreamingEncoder(causal(), 0)


def test_frames_of_another_size_or_beyond_the_end():
    vae = causal()
    encoder = StreamingEncoder(vae, 9)
    encoder.encode(clip(5))
    with pytest.raises(
        ValueError, match=r"x must have the batch, height and width .* \(1, 16, 24\), got \(1, 24, 16\)"
    ):
        encoder.encode(clip(4).transpose(3, 4))
    with pytest.raises(ValueError, match=r"\(1, 16, 24\), got \(2, 16, 24\)"):
        encoder.encode(clip(4, batch=2))
    with pytest.raises(ValueError, match="x has 5 frames, but only 4 of the 9 of this stream of num_frames=9 are left"):
        encoder.encode(clip(5))
    with pytest.raises(ValueError, match="x must have 3 channels, got 1"):
        encoder.encode(clip(4)[:, :1])
    with pytest.raises(ValueError, match="height .20. must be a multiple of 8"):
        StreamingEncoder(vae, 9).encode(torch.zeros(1, 3, 4, 20, 16, dtype=torch.double))
    assert encoder.position == 5
    encoder.encode(clip(4))
    with pytest.raises(ValueError, match="only 0 of the 9 of this stream"):
        encoder.encode(clip(1))


def test_another_type_or_device():
    encoder, decoder = StreamingEncoder(causal(), 9), StreamingDecoder(causal(), 9)
    with pytest.raises(ValueError, match="x must have the model's dtype, torch.float64, got torch.float32"):
        encoder.encode(clip(4).float())
    with pytest.raises(ValueError, match="z must be on the model's device, cpu, got meta"):
        decoder.decode(torch.zeros(1, 4, 1, 2, 3, dtype=torch.double, device="meta"))


def test_latents_beyond_the_end_and_num_frames_wrong_by_one():
    vae, x = causal(), clip(17)
    z, _ = whole(vae, x)  # 5 latents
    decoder = StreamingDecoder(vae, 16)  # would be 4
    with pytest.raises(ValueError, match="z has 5 latents, but only 4 of the 4 of this stream of num_frames=16"):
        decoder.decode(z)
    encoder = StreamingEncoder(vae, 18)
    encoder.encode(x)
    with pytest.raises(ValueError, match="the stream ended after 17 frames, but num_frames=18 needs 18"):
        encoder.finish()


def test_states_of_other_streams_are_refused():
    vae = causal(17)
    encoder = StreamingEncoder(vae, 17)
    encoder.encode(clip(6))  # 5 in groups, and one that waits
    state = encoder.state_dict()
    for other, message in (
        (StreamingDecoder(vae, 17), "takes 'frame', this one has 'latent'"),
        (StreamingEncoder(vae, 18), "num_frames 17, this one has 18"),
        (StreamingEncoder(vae, 17, chunked=True), "chunked False, this one has True"),
        (StreamingEncoder(vae.with_micro_frame_size(None), 17), "micro_frame_size 17, this one has None"),
        (StreamingEncoder(TemporalVAE(**SMALL_TEMPORAL | dict(temporal_downsample=(True, True), base_channels=8,
                                                              norm="frame_group")), 17), "state is of another model"),
    ):  # fmt: skip
        given_ = state | {"micro_frame_size": None} if isinstance(other.vae, TemporalVAE) else state
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(given_)
    for name, value in (("position", 3), ("chunk", 1), ("waiting", None)):
        with pytest.raises(ValueError, match="state contradicts itself"):
            StreamingEncoder(vae, 17).load_state_dict(state | {name: value})
    with pytest.raises(ValueError, match="state remembers 0 convolutions after 5 inputs of a chunk"):
        StreamingEncoder(vae, 17).load_state_dict(state | {"past": {}})
    with pytest.raises(ValueError, match="state must be from StreamingEncoder.state_dict"):
        encoder.load_state_dict({})
