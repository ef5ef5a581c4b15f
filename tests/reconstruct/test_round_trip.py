from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers import small_vae
from tests.helpers.video import LONG
from vae_lab import DiagonalGaussian
from vae_lab.families import Codec, Streams, codec as codecs, register
from vae_lab.reconstruct.round_trip import RoundTrip


def test_pieces_are_whole_groups():
    vae = small_vae(temporal=dict(norm="frame_group"), micro_frame_size=None)
    assert RoundTrip(vae, 37, 16, 16).lengths == [13, 16, 8]
    assert RoundTrip(vae, 1, 16, 16).lengths == [1]


def test_state_is_carried_to_where_the_model_is():
    vae = small_vae(temporal=dict(norm="frame_group"), micro_frame_size=None)
    whole, first = RoundTrip(vae, 29, 24, 32), RoundTrip(vae, 29, 24, 32)
    before = [whole.feed(LONG.frames[:13]), whole.feed(LONG.frames[13:29])]
    first.feed(LONG.frames[:13])
    second = RoundTrip(vae, 29, 24, 32)
    second.load_state_dict(first.state_dict())
    assert np.array_equal(second.feed(LONG.frames[13:29]).outputs["full"], before[1].outputs["full"])
    assert second.latent_shape == whole.latent_shape == (4, 8, 3, 4)
    assert torch.is_grad_enabled()


# ---- a family with streams and without halves ----------------------------------------------------------------------


class Fading(nn.Module):
    """A causal model of another library: latents are means of pairs of frames, mixed with the latent before."""

    spatial_compression_ratio, config, dtype, device = 1, {}, torch.float32, torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.longest = 0  # frames that it was given at once

    def encode(self, x, before=None):
        self.longest = max(self.longest, x.shape[2])
        first = [] if before is not None and x.shape[2] % 2 == 0 else [x[:, :, :1]]
        pairs = x[:, :, len(first) :]
        latents = [*first, *pairs.unflatten(2, (-1, 2)).mean(dim=3).split(1, dim=2)]
        for i, latent in enumerate(latents):
            before = latents[i] = latent if before is None else 0.75 * latent + 0.25 * before
        return torch.cat(latents, dim=2)

    def decode(self, z, begins=True):
        return z.repeat_interleave(2, dim=2)[:, :, int(begins) :]


class FadingStream:
    """Encodes and decodes pieces of whole groups. surplus: frames that it leaves out by mistake."""

    def __init__(self, vae, surplus=0):
        self.vae, self.surplus, self.before = vae, surplus, None

    def encode(self, x):
        z = self.vae.encode(x, self.before)
        self.before = z[:, :, -1:]
        return SimpleNamespace(latent_dist=DiagonalGaussian(torch.cat([z, torch.zeros_like(z)], dim=1)))

    def decode(self, z):
        y = self.vae.decode(z, self.before is None)
        self.before = z[:, :, -1:]
        return SimpleNamespace(sample=y[:, :, self.surplus :])

    def state_dict(self):
        return {"before": self.before}

    def load_state_dict(self, state):
        self.before = state["before"]


@pytest.fixture
def fading(monkeypatch):
    monkeypatch.setattr(codecs, "_REGISTERED", dict(codecs._REGISTERED))

    @register(Fading)
    class FadingCodec(Codec):
        temporal_ratio, any_length, surplus = 2, True, 0

        def encode(self, x):
            return self.vae.encode(x)

        def decode(self, z, num_frames):
            return self.vae.decode(z)

        def stream(self, num_frames, chunked=None):
            if num_frames % 2 == 0:
                raise ValueError("a clip must have an odd number of frames")
            return Streams(FadingStream(self.vae), FadingStream(self.vae, self.surplus))

    return FadingCodec


def test_streams_of_a_registered_family_are_used(fading):
    vae, x = Fading(), LONG.frames[:99]
    trip = RoundTrip(vae, 99, 24, 32)
    assert trip.lengths == [15, *[16] * 5, 4] and trip.panels == ["full"]
    parts = np.split(x, np.cumsum(trip.lengths)[:-1])
    pieces = [trip.feed(part) for part in parts[:3]]
    second = RoundTrip(vae, 99, 24, 32)
    second.load_state_dict(trip.state_dict())
    pieces += [second.feed(part) for part in parts[3:]]
    assert vae.longest == 16 and second.latent_shape == (3, 50, 24, 32)
    whole = RoundTrip(Fading(), 99, 24, 32)
    whole._streams = None
    expected = whole.feed(x)
    assert np.array_equal(np.concatenate([piece.outputs["full"] for piece in pieces]), expected.outputs["full"])
    assert np.array_equal(
        np.concatenate([piece.quality["full"].psnr for piece in pieces]), expected.quality["full"].psnr
    )


def test_a_clip_that_the_family_does_not_stream_is_one_piece(fading):
    assert RoundTrip(Fading(), 98, 24, 32).lengths == [98]


def test_streams_that_lose_frames_are_refused(fading):
    fading.surplus = 1
    trip = RoundTrip(Fading(), 17, 24, 32)
    with pytest.raises(
        ValueError, match=r"the streams of Fading turned whole groups .*\(1, 3, 15, .* into \(1, 3, 14,"
    ):
        trip.feed(LONG.frames[:15])
