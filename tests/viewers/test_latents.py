"""What the latent viewer holds and how it answers; tests/browser/test_viewers.py shows it in a browser."""

import base64
import io
import json
import re

import numpy as np
import pytest
import scipy.stats
import torch
from diffusers import AutoencoderKL, AutoencoderKLCogVideoX, AutoencoderKLLTXVideo, AutoencoderKLWan
from PIL import Image

from tests.helpers import small_vae
from vae_lab import DiagonalGaussian, photo_clip, shapes, synthetic_clip, to_frames, to_tensor
from vae_lab.families import codec_of
from vae_lab.figures.frames import error_map, latent_pictures
from vae_lab.figures.style import COLOURS
from vae_lab.latents.edits import EDITS, Channel, edit
from vae_lab.latents.files import write_latents
from vae_lab.shapes import Timeline
from vae_lab.viewers.latents import ERROR_SCALE, LatentViewer, explore_latents

SIZE = (32, 48)
CLIP = photo_clip("coffee", 18, SIZE)
NUM_FRAMES = len(CLIP.frames)
Z = torch.randn(1, 4, 6, 4, 6, generator=torch.Generator().manual_seed(1)) * 2 + 1
OTHER = torch.randn(Z.shape, generator=torch.Generator().manual_seed(2))


def view_of(z=Z, frames=None, **options) -> LatentViewer:
    return explore_latents(z, frames, **options)


@pytest.fixture(scope="module")
def vae():
    return small_vae()


@pytest.fixture(scope="module")
def view(vae) -> LatentViewer:
    posterior = DiagonalGaussian(torch.cat([Z, torch.full_like(Z, -2)], dim=1))
    return view_of(frames=CLIP, vae=vae, other=OTHER, posterior=posterior)


def picture(image: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image))))


def decoded(vae, z: torch.Tensor, num_frames: int = NUM_FRAMES) -> np.ndarray:
    with torch.no_grad():
        return to_frames(vae.decode(z, num_frames).sample)


def frames_of(answer: dict, before: np.ndarray) -> np.ndarray:
    """An answer's pictures as the browser makes them."""
    pictures = np.stack([picture(image) for image in answer["images"]])
    return before + pictures if answer["differences"] else pictures


# ---- what is shown -------------------------------------------------------------------------------------------------


def test_pictures_and_values_are_exact(view):
    data = view.data
    assert data["kind"] == "latents" and data["size"] == [4, 6, 4, 6] and data["note"] == ""
    pictures = latent_pictures(Z[0].numpy())
    assert [shown["title"] for shown in data["latents"]] == list(pictures)
    for shown, right in zip(data["latents"], pictures.values(), strict=True):
        assert np.array_equal([picture(image) for image in shown["images"]], right)
    assert np.array_equal([picture(image) for image in data["frames"]["images"]], CLIP.frames)
    assert (data["frames"]["stride"], data["frames"]["height"], data["frames"]["width"]) == (1, *SIZE)
    values = np.frombuffer(base64.b64decode(data["values"]), "<f4").reshape(Z.shape)
    assert np.array_equal(values, Z.numpy())
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_frames_belong_to_latent_frames_by_the_law_or_the_model(vae):
    law = [[group.start, group.stop] for group in shapes.frame_groups(18)]
    by_law = view_of(num_frames=18).data
    assert by_law["groups"] == view_of(frames=CLIP).data["groups"] == law and by_law["chunkStarts"] == [0, 17]
    assert by_law["numFrames"] == 18 and by_law["frames"] is None
    chunked = view_of(frames=CLIP, vae=small_vae(micro_frame_size=9), timeline=Timeline(18, 4, 9))
    assert chunked.data["groups"] == [[g.start, g.stop] for g in shapes.frame_groups(18, 4, 9)]  # the model's own
    assert chunked.data["chunkStarts"] == [0, 9]
    alone = view_of().data
    assert alone["groups"] is None and alone["chunkStarts"] == [] and alone["numFrames"] is None
    one_each = view_of(frames=CLIP.frames[:6], timeline=Timeline(6, 1, None)).data
    assert one_each["groups"] == [[t, t + 1] for t in range(6)] and one_each["chunkStarts"] == [0]


def test_statistics_are_those_of_numpy(view, vae):
    values = Z[0].double().numpy()
    rows = view.data["statistics"]["rows"]
    close = lambda found, right: np.allclose(found, right, rtol=1e-5)  # noqa: E731
    for channel, row in enumerate(rows):
        cells = values[channel].ravel()
        assert close([row["mean"], row["std"]], [cells.mean(), cells.std()])
        assert close(row["kurtosis"], scipy.stats.kurtosis(cells))
        assumed = [values[0, channel].item() for values in (vae.shift, vae.scale)]
        assert close([row["latents_mean"], row["latents_std"]], assumed)
        normalised = vae.normalize(Z)[0, channel].double().numpy()
        found = [row["normalised_mean"], row["normalised_std"]]
        assert np.allclose(found, [normalised.mean(), normalised.std()], rtol=1e-4)
        assert close(row["posterior_std"], np.exp(-1)) and row["active"] is True
        assert close(row["kl"], (0.5 * (cells**2 + np.exp(-2) - 1 + 2)).mean())
    frames = view.data["statistics"]["frames"]
    assert close(frames["mean"], values.mean(axis=(2, 3))) and close(frames["std"], values.std(axis=(2, 3)))
    assert close(frames["kurtosis"], scipy.stats.kurtosis(values.reshape(4, 6, -1), axis=2))
    relations = view.data["relations"]
    assert np.allclose(relations["correlation"], np.corrcoef(values.reshape(4, -1)), atol=1e-6)
    centred = values - values.mean(axis=(1, 2, 3), keepdims=True)
    lag = [np.corrcoef(c[:-1].ravel(), c[1:].ravel())[0, 1] for c in centred]
    assert np.allclose(np.array(relations["autocorrelation"])[:, 1], lag, atol=0.02)  # one mean for both parts
    assert relations["spatial"]["unit"] == "cycles per latent cell" and relations["temporal"]["frequency"][-1] == 0.5
    power = np.abs(np.fft.fft(values - values.mean(axis=1, keepdims=True), axis=1)) ** 2
    assert close(np.array(relations["temporal"]["power"])[:, -1], power[:, 3].mean(axis=(1, 2)) / 6)


def test_a_dead_channel_is_named():
    mean = Z.clone()
    mean[:, 1] /= 1000
    posterior = DiagonalGaussian(torch.cat([mean, torch.zeros_like(Z)], dim=1))
    statistics = view_of(mean, posterior=posterior).data["statistics"]
    assert [row["active"] for row in statistics["rows"]] == [True, False, True, True]
    assert any(note.startswith("3 of 4 channels active; dead: 1. Active: ") for note in statistics["notes"])


def test_what_is_constant_has_no_numbers():
    z = Z.clone()
    z[:, 2] = 0.5
    data = view_of(z).data
    assert data["statistics"]["rows"][2] == {"mean": 0.5, "std": 0.0, "kurtosis": None}
    assert data["relations"]["correlation"][2] == [None] * 4
    single = view_of(Z[:, :, :1, :1, :1]).data
    assert single["relations"]["spatial"]["frequency"] == single["relations"]["temporal"]["frequency"] == []
    assert json.dumps(single, allow_nan=False)


def test_the_warning_is_there_for_normalised_latents_and_not_for_raw_ones():
    shift, scale = torch.tensor([-0.1, 0.3, 0.3, 1.0]), torch.tensor([3.9, 2.3, 2.3, 3.1])
    normalised = torch.randn(1, 4, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    raw = normalised * scale.view(1, 4, 1, 1, 1) + shift.view(1, 4, 1, 1, 1)
    right, wrong = (view_of(z, latents_mean=shift, latents_std=scale) for z in (raw, normalised))
    assert right.data["statistics"]["warning"] == "" and "Warning" not in right.text
    warning = wrong.data["statistics"]["warning"]
    assert warning.startswith("These latents look normalised") and wrong.text.endswith(f"Warning: {warning}")
    assert any("not checked" in note for note in view_of(raw).data["statistics"]["notes"])
    assert any("raw 0.0" in note for note in right.data["statistics"]["notes"])


def test_latents_of_other_kinds(tmp_path):
    path = tmp_path / "latents.safetensors"
    write_latents(path, Z)
    for z in (path, str(path), Z.numpy(), Z.double(), Z.requires_grad_(True)):
        assert view_of(z).data["values"] == view_of().data["values"]
    Z.requires_grad_(False)
    fixed = Z.numpy().copy()
    fixed.flags.writeable = False
    for z in (fixed, Z.numpy().astype(">f4"), Z.numpy()[..., ::-1].copy()[..., ::-1]):
        assert view_of(z).data["values"] == view_of().data["values"]
    half = view_of(Z.bfloat16(), other=Z.half().numpy()[..., ::-1])
    assert not any(form["needs"] for form in half.data["changes"]["edits"]) and half.answers is None
    assert half.data["changes"]["reason"].startswith("Nothing decodes these latents here")


def test_text_and_figure(view):
    assert view.text.startswith(
        "Latent viewer: 4x6x4x6 (channels x latent frames x height x width) of 18 frames; mean and std by channel: "
        f"{Z[0, 0].mean():.2f} ± {Z[0, 0].std(correction=0):.2f}, "
    )
    many = view_of(torch.randn(1, 40, 6, 4, 6))._figure().axes[0]
    assert len(many.images) == (1 + 16) * 6 and many.get_title().endswith("; 16 channels of 40")
    for each in (view, view_of(), view_of(Z[:, :2], num_frames=18)):
        each._figure().savefig(io.BytesIO(), format="png")
    assert len(view._figure().axes[0].images) == (1 + 1 + 4) * 6  # frames, PCA and channels over latent frames


def test_the_scale_of_differences_is_that_of_error_map():
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1).repeat(3, axis=3)
    assert np.array_equal(error_map(np.zeros_like(ramp), ramp, 1)[0, 0], ERROR_SCALE)
    assert ERROR_SCALE[150].tolist() == [int(COLOURS["error"][i : i + 2], 16) for i in (1, 3, 5)]


# ---- what models tell ----------------------------------------------------------------------------------------------


def wan(**config) -> AutoencoderKLWan:
    sizes = dict(base_dim=3, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True])
    return AutoencoderKLWan(**sizes, **config).eval()


def cogvideox(**config) -> AutoencoderKLCogVideoX:
    levels = dict(down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4)
    sizes = dict(block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2)
    return AutoencoderKLCogVideoX(**levels, **sizes, **config).eval()


def ltx(**config) -> AutoencoderKLLTXVideo:
    small = dict(block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8), latent_channels=4)
    layers = dict(layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5, patch_size=1)
    return AutoencoderKLLTXVideo(**small, **layers, **config).eval()


def test_shift_and_scale_are_read_from_every_kind_of_model(vae):
    tell = lambda model, channels=4: [values.tolist() for values in codec_of(model).mean_std(channels)]  # noqa: E731
    about = pytest.approx
    assert tell(vae) == [vae.shift.flatten().tolist(), vae.scale.flatten().tolist()]
    assert tell(vae.spatial) == [[0] * 4, [1] * 4] and codec_of(vae.temporal).mean_std(4) is None
    assert tell(cogvideox(scaling_factor=2.0)) == [[0] * 4, [0.5] * 4]
    assert tell(cogvideox(scaling_factor=4.0, shift_factor=0.25)) == [[0.25] * 4, [0.25] * 4]
    assert tell(wan(latents_mean=[1, 2, 3, 4], latents_std=[5, 6, 7, 8])) == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert codec_of(wan()).mean_std(4) is None  # its defaults are for 16 channels
    model = ltx(scaling_factor=0.5)
    model.latents_mean[:], model.latents_std[:] = torch.arange(4.0), 3.0  # buffers, which its pipeline uses
    assert tell(model) == [[0, 1, 2, 3], about([6] * 4)]


def test_groups_are_told_without_running_the_model(vae):
    assert codec_of(vae).timeline(18, 6).groups == shapes.frame_groups(18)
    assert codec_of(wan()).timeline(17, 5).groups == shapes.frame_groups(17)
    with pytest.raises(ValueError, match="VideoVAE made 5 latent frames of 18 frames, so it is unknown which"):
        codec_of(vae).timeline(18, 5)


@pytest.mark.parametrize(
    ("model", "num_frames", "latent_frames", "fitting"),
    [(wan, 16, 4, (13, 17)), (wan, 18, 5, (17, 21)), (ltx, 16, 2, (9, 17)), (cogvideox, 12, 3, (9, 16))],
)
def test_lengths_that_a_model_does_not_keep_are_refused_with_those_that_fit(model, num_frames, latent_frames, fitting):
    vae, z = model(), torch.zeros(1, 4, latent_frames, 4, 4)
    message = f"must be as many as z decodes to, got {num_frames}: .* to {fitting[0]} frames?, .* that fit are "
    with pytest.raises(ValueError, match=f"frames {message}{fitting[0]} and {fitting[1]}$"):
        view_of(z, np.zeros((num_frames, 32, 32, 3), np.uint8), vae=vae)
    with pytest.raises(ValueError, match="num_frames " + message):
        view_of(z, num_frames=num_frames, vae=vae)
    for length in fitting:  # said rightly: they are what the model encodes to latents that decode to as many
        with torch.no_grad():
            found = vae.encode(torch.zeros(1, 3, length, 32, 32)).latent_dist.mode()
            assert vae.decode(found).sample.shape[2] == length
        assert view_of(found, num_frames=length, vae=vae).answers


def test_a_model_without_padding_keeps_16_frames():
    shown = view_of(torch.zeros(1, 4, 4, 2, 2), num_frames=16, vae=cogvideox())
    assert shown.data["groups"] == [[0, 4], [4, 8], [8, 12], [12, 16]]
    assert "answer" in shown.answers.answer({"operation": "cell", "cell": [0, 0, 0], "amount": 1, "channel": 0})


@pytest.mark.parametrize(
    ("vae", "message"),
    [
        ("lab", "vae must be a video VAE with diffusers' interface, such as `load` reads, got str"),
        (torch.nn.Linear(1, 1), "vae must be a video VAE .* got Linear"),
        (lambda z: z, "vae must be a video VAE .* got function"),
        (
            small_vae().temporal,
            r"vae must decode to frames .1, 3, T, H, W., but TemporalVAE decodes z to \(1, 4, 1, 4, 6",
        ),
        (AutoencoderKL(), r"AutoencoderKL made 6 latent frames of 18 frames, .*\(temporal ratio 1\)"),
    ],
)
def test_what_does_not_decode_these_latents_is_refused(vae, message):
    with pytest.raises(ValueError, match=message):
        view_of(frames=CLIP, vae=vae)


@pytest.mark.parametrize("model", [small_vae, wan])
def test_latents_of_other_channels_than_the_models_are_refused(model):
    with pytest.raises(ValueError, match=r"vae must decode latents of shape \(1, 3, ., 4, 6\), but .* fails on them: "):
        view_of(Z[:, :3, :5], num_frames=17, vae=model())


def test_other_families_answer_too():
    z = torch.randn(1, 4, 5, 2, 2, generator=torch.Generator().manual_seed(0))
    for model in (wan(latents_mean=[0] * 4, latents_std=[2] * 4), cogvideox()):
        shown = view_of(z, num_frames=17, vae=model)
        assert shown.data["groups"] == [[g.start, g.stop] for g in shapes.frame_groups(17)]
        assert shown.report.scale is not None
        answer = shown.answers.answer({"operation": "zero", "channel": 1})["answer"]
        changed = z.clone()
        changed[:, 1] = 0
        with torch.no_grad():
            before, after = (to_frames(model.decode(latents).sample) for latents in (z, changed))
        assert np.array_equal(frames_of(answer, before), after)


# ---- answers -------------------------------------------------------------------------------------------------------


def changed_by_hand() -> dict[str, tuple[dict, torch.Tensor]]:
    """name -> request, and the latents that it means, written out."""
    zero, amplified, later, earlier, swapped, cell, one = (Z.clone() for _ in range(7))
    zero[:, 2] = 0
    amplified[:, 1] = 3 * (Z[:, 1] - Z[:, 1].mean()) + Z[:, 1].mean()
    later[:, 0] = Z[:, 0][:, [0, 0, 0, 1, 2, 3]]
    earlier[:, 3] = Z[:, 3][:, [1, 2, 3, 4, 5, 5]]
    swapped[:, 1] = OTHER[:, 1]
    stds = Z[0].flatten(1).std(dim=1, correction=0)
    cell[0, :, 2, 3, 5] += 1.5 * stds
    one[0, 3, 0, 0, 1] -= 2 * stds[3]
    return {
        "zero channel 2": ({"operation": "zero", "channel": 2}, zero),
        "channel 1 × 3": ({"operation": "amplify", "channel": 1, "factor": 3}, amplified),
        "channel 0 shifted by +2 latent frames": ({"operation": "shift", "channel": 0, "latent_frames": 2}, later),
        "channel 3 shifted by -1 latent frame": ({"operation": "shift", "channel": 3, "latent_frames": -1}, earlier),
        "channel 1 of the other clip": ({"operation": "swap", "channel": 1}, swapped),
        "interpolated, weight 0.25": ({"operation": "interpolate", "weight": 0.25}, 0.75 * Z + 0.25 * OTHER),
        "cell (2, 3, 5) of all channels +1.5 std": (
            {"operation": "cell", "cell": [2, 3, 5], "amount": 1.5, "channel": None}, cell
        ),
        "cell (0, 0, 1) of channel 3 -2 std": (
            {"operation": "cell", "cell": [0, 0, 1], "amount": -2, "channel": 3}, one
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", changed_by_hand())
def test_answers_are_the_decoded_change(view, vae, name):
    request, changed = changed_by_hand()[name]
    message = view.answers.answer(request)
    answer, shown = message["answer"], view.data["changes"]["decoded"]
    before, after = decoded(vae, Z), decoded(vae, changed)
    assert message["request"] == answer["request"] == request and answer["name"] == name
    assert np.array_equal([picture(image) for image in shown["images"]], before) and shown["stride"] == 1
    assert np.abs(frames_of(answer, before).astype(int) - after).max() <= 1  # latents rounded otherwise
    assert (frames_of(answer, before) != after).mean() < 0.01
    with torch.no_grad():
        x, y = (vae.decode(z, NUM_FRAMES).sample.clamp(-1, 1).double() for z in (Z, changed))
    rms = (x - y).square().mean(dim=(0, 1, 3, 4)).sqrt()
    assert np.allclose(answer["rms"], rms, rtol=1e-3, atol=1e-6)
    total = rms.square().mean().sqrt().item()
    said, psnr = map(float, re.search(r": RMS difference (\S+) over .+, PSNR (\S+) dB", answer["text"]).groups())
    assert said == pytest.approx(total, rel=0.01) and psnr == pytest.approx(20 * np.log10(2 / total), abs=0.01)
    assert f"most in frame {rms.argmax()}" in answer["text"]


def test_a_cell_says_what_it_paints():
    vae = small_vae(temporal={"norm": "frame_group"})
    answer = view_of(frames=CLIP, vae=vae).answers.answer(
        {"operation": "cell", "cell": [5, 0, 0], "amount": 2, "channel": None}
    )["answer"]
    assert "It changes frames 17 to 17, rows 0 to " in answer["text"]  # the last chunk, which has one frame
    assert "by at least 10% of the largest change frames 17 to 17" in answer["text"]
    assert answer["differences"] and answer["rms"][:17] == [0.0] * 17
    black = np.zeros((*SIZE, 3), np.uint8)
    assert all(np.array_equal(picture(image), black) for image in answer["images"][:17])


def test_large_changes_are_kept_as_pictures_and_small_ones_as_differences(vae):
    answers = view_of(frames=CLIP, vae=vae, other=OTHER * 50).answers
    ask = lambda **request: answers.answer(request)["answer"]["differences"]  # noqa: E731
    assert not ask(operation="interpolate", weight=1.0)
    assert ask(operation="amplify", channel=0, factor=1)  # no change at all
    assert answers.answer({"operation": "amplify", "channel": 0, "factor": 1})["answer"]["text"] == (
        "channel 0 × 1: no pixel changes."
    )


class Counting:
    """A video VAE that counts what it decodes."""

    def __init__(self, vae, fail=None):
        self.vae, self.config, self.device, self.dtype = vae, vae.config, vae.device, vae.dtype
        self.calls, self.fail = 0, fail

    def named_buffers(self):
        return self.vae.named_buffers()

    def decode(self, z):
        self.calls += 1
        if self.fail:
            raise self.fail
        return self.vae.decode(z)


def test_nothing_is_decoded_before_it_is_asked_for_and_nothing_twice():
    z = torch.randn(1, 4, 5, 2, 2, generator=torch.Generator().manual_seed(0))
    vae = Counting(cogvideox(temporal_compression_ratio=4))
    shown = view_of(z, num_frames=17, vae=vae)
    assert vae.calls == 0 and shown.data["changes"]["decoded"] is None
    first = shown.answers.answer({"operation": "zero", "channel": 1})
    assert vae.calls == 2 and first["decoded"] is shown.data["changes"]["decoded"]
    second = shown.answers.answer({"operation": "cell", "cell": [0, 0, 0], "amount": 1, "channel": 1})
    assert vae.calls == 3 and second["decoded"] is None
    assert shown.data["changes"]["answers"] == [first["answer"], second["answer"]]
    again = shown.answers.answer({"operation": "zero", "channel": 1})
    assert shown.data["changes"]["answers"] == [second["answer"], again["answer"]]


def test_failures_come_back_as_text():
    z = torch.randn(1, 4, 5, 2, 2, generator=torch.Generator().manual_seed(0))
    request = {"operation": "zero", "channel": 1}
    broken = view_of(z, num_frames=17, vae=Counting(cogvideox(), RuntimeError("out of memory")))
    assert broken.answers.answer(request) == {"request": request, "error": "RuntimeError: out of memory"}
    assert broken.data["changes"]["decoded"] is None and broken.data["changes"]["answers"] == []
    timed = view_of(z, num_frames=33, vae=ltx(timestep_conditioning=True))
    assert "answer" in timed.answers.answer(request)  # its codec passes the time step
    stopped = view_of(z, num_frames=17, vae=Counting(cogvideox(), KeyboardInterrupt()))
    assert stopped.answers.answer(request)["error"].startswith("KeyboardInterrupt")
    shorter = view_of(z, num_frames=20, vae=Counting(cogvideox()))
    assert shorter.answers.answer(request)["error"] == "Counting decoded 17 frames, not 20"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"operation": "zero", "channel": 4}, "channel must be an integer from 0 to 3, got 4"),
        ({"operation": "zero"}, "zero takes channel, got nothing"),
        ({"operation": "amplify", "chanel": 0, "factor": 2}, "amplify takes channel, factor, got chanel, factor"),
        (
            {"operation": "paint", "channel": 0},
            "edit must have an operation and what it takes (zero: channel; ",
        ),
        ({"operation": "shift", "channel": 0, "latent_frames": 6}, "latent_frames must be an integer from -5 to 5"),
        ({"operation": "cell", "cell": [0, 0, 6], "amount": 1, "channel": 0}, "column of cell must be an integer from"),
        ({"operation": "cell", "cell": [0, 0, 0], "amount": 1, "channel": 9}, "channel must be an integer from 0 to 3"),
        ({"operation": "amplify", "channel": 0, "factor": float("nan")}, "factor must be a finite number, got nan"),
        ({"operation": "amplify", "channel": 0, "factor": "2"}, "factor must be a finite number, got '2'"),
        ({"operation": "cell", "cell": [0, 0, 0], "amount": None, "channel": 0}, "amount must be a finite number"),
        ({"operation": "shift", "channel": 0, "latent_frames": 1.5}, "latent_frames must be an integer from -5 to 5"),
        ({"operation": "swap", "channel": 0}, "swap needs other, the latents of a second clip"),
        ({"operation": "interpolate", "weight": 0.5}, "interpolate needs other, the latents of a second clip"),
    ],
)
def test_bad_edits(vae, asked, message):
    answers = view_of(frames=CLIP, vae=vae).answers
    found = answers.answer(asked)
    assert found["request"] == asked and found["error"].startswith(message)


def test_numbers_of_numpy_are_requests_and_a_request_is_kept_once(vae):
    shown = view_of(frames=CLIP, vae=vae, num_frames=np.int64(NUM_FRAMES))
    asked = [
        {"operation": "zero", "channel": np.int64(1)},
        {"operation": "amplify", "channel": np.uint8(1), "factor": np.float32(2)},
        {"operation": "cell", "cell": (0, np.int32(1), 2), "amount": np.float64(1), "channel": None},
        {"operation": "cell", "cell": np.array([0, 1, 2]), "amount": 1, "channel": None},
    ]
    plain = [shown.answers.check([request])[0] for request in asked]
    assert plain[3] == plain[2] and not any("error" in shown.answers.answer(request) for request in asked)
    assert [answer["request"] for answer in shown.data["changes"]["answers"]] == [*plain[:2], plain[3]]
    assert json.loads(json.dumps(shown.data, allow_nan=False)) == shown.data


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ("zero", "edits must be a list of dicts, got 'zero'"),
        (None, "edits must be a list of dicts, got None"),
        ({"operation": "zero", "channel": 0}, "edits must be a list of dicts, got {'operation'"),
        ([["zero", 0]], "edits must be dicts, each with an operation and what it takes, got "),
        ([{"operation": ["zero"]}], "edit must have an operation"),
        ([{"operation": "zero", "channel": 9}], "{'operation': 'zero', 'channel': 9}: channel must be an integer from"),
    ],
)
def test_requests_are_checked_before_anything_is_decoded(vae, requests, message):
    with pytest.raises(ValueError, match=message):
        view_of(frames=CLIP, vae=vae).answers.check(requests)


def test_an_edit_that_is_newer_than_the_viewer_has_a_form_with_its_answer(vae, monkeypatch):
    viewer = view_of(frames=CLIP, vae=vae)
    monkeypatch.setitem(EDITS, "flip", EDITS["zero"])  # so that it is removed afterwards
    edit("flip", Channel(), title="{channel} flipped")(lambda z, channel: -z)
    viewer.precompute([{"operation": "flip", "channel": 0}])
    assert [answer["name"] for answer in viewer.data["changes"]["answers"]] == ["channel 0 flipped"]
    assert viewer.data["changes"]["edits"][-1]["name"] == "flip"


# ---- size ----------------------------------------------------------------------------------------------------------


def pictures_of(data: dict) -> int:
    views = [*data["latents"], *([data["frames"]] if data["frames"] else []), *data["changes"]["answers"]]
    views += [data["changes"]["decoded"]] if data["changes"]["decoded"] else []
    return sum(len(image) for view in views for image in view["images"]) + len(data["values"] or "")


def test_answers_make_room_for_one_another_and_it_is_said():
    clip = synthetic_clip("texture", 17, (128, 128))
    z = torch.randn(1, 4, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 30
    shown = view_of(z, clip, vae=small_vae(seed=3), max_bytes=1_500_000)
    changes = shown.data["changes"]
    asked = [{"operation": "amplify", "channel": channel, "factor": f} for channel in range(4) for f in (0, 2, 3)]
    messages = [shown.answers.answer(request) for request in asked]
    assert not any("error" in message for message in messages)
    kept = [answer["request"] for answer in changes["answers"]]
    assert 1 < len(kept) < 11 and kept == asked[-len(kept) :]
    said = f"A saved page leaves out {12 - len(kept)} earlier answers, so that all stays under 1.5 MB (max_bytes)."
    assert changes["note"].endswith(said)
    assert 500_000 < pictures_of(shown.data) <= 1_000_000
    with pytest.warns(UserWarning, match=rf"left out {12 - len(kept)} of 12 answers.* \(1500000\) has no room: {{'"):
        shown.answers.precompute(asked)


def test_frames_are_thinned_and_so_is_what_is_decoded():
    noise = np.random.default_rng(0).integers(0, 256, (33, 128, 128, 3), np.uint8)
    vae = small_vae()
    z = torch.randn(1, 4, 9, 16, 16, generator=torch.Generator().manual_seed(0)) * 20
    shown = view_of(z, noise, vae=vae, max_bytes=1_300_000)
    stride, height = shown.data["frames"]["stride"], shown.data["frames"]["height"]
    assert stride > 1 and height < 128 and "frames is kept and pictures are shrunk" in shown.data["note"]
    assert sum(map(len, shown.data["frames"]["images"])) <= 800_000 / 3  # decoded and changed ones have as much
    answer = shown.answers.answer({"operation": "zero", "channel": 0})["answer"]
    base = shown.data["changes"]["decoded"]
    stride, shrink = base["stride"], -(-128 // base["height"])
    note = shown.data["changes"]["note"]
    assert stride > 1 and f"of 33 frames is kept and pictures are shrunk {shrink} times" in note
    reduced = lambda z: [  # noqa: E731
        np.asarray(Image.fromarray(frame).reduce(shrink)) for frame in decoded(vae, z, 33)[::stride]
    ]
    assert np.array_equal([picture(image) for image in base["images"]], reduced(z))
    zeroed = z.clone()
    zeroed[:, 0] = 0
    assert np.array_equal(frames_of(answer, np.stack(reduced(z))), reduced(zeroed))
    assert len(answer["rms"]) == 33 and pictures_of(shown.data) <= 800_000


def test_an_answer_that_cannot_fit_is_refused_with_what_it_takes(vae):
    shown = view_of(frames=CLIP, vae=vae)
    request = {"operation": "zero", "channel": 0}
    size = sum(map(len, shown.answers.answer(request)["answer"]["images"]))
    kept = list(shown.data["changes"]["answers"])
    shown.answers._budget.left = size - 7
    assert shown.answers.answer(request)["error"] == (
        f"max_bytes (4000000) must be larger: it leaves {size - 7} bytes for answers, and this one has {size}"
    )
    assert shown.data["changes"]["answers"] == kept


def test_frames_come_with_the_first_answer_that_comes(vae):
    answers = view_of(frames=CLIP, vae=vae).answers
    answers._budget.left, room = 0, answers._budget.left
    assert "error" in answers.answer({"operation": "zero", "channel": 0})  # decoded, but its answer does not fit
    answers._budget.left += room
    assert answers.answer({"operation": "zero", "channel": 1})["decoded"]["images"]
    assert answers.answer({"operation": "zero", "channel": 2})["decoded"] is None


@pytest.mark.parametrize("shape", [(1, 128, 200, 1, 1), (1, 16, 1000, 1, 1), (1, 600, 3, 1, 1)])
def test_statistics_take_their_part_of_max_bytes_and_it_is_said(shape):
    data = view_of(torch.randn(shape, generator=torch.Generator().manual_seed(0)), max_bytes=1_000_000).data
    assert len(json.dumps(data)) < 1_000_000 - 300_000  # the picture and the script have their room
    every, correlation = data["statistics"]["every"], data["relations"]["correlation"]
    if shape[1] == 600:
        assert correlation is None and "The correlations between 600 channels are left out" in data["note"]
    else:
        assert every > 1 and f"The curves of the statistics have one of {every} latent frames" in data["note"]
        assert len(data["statistics"]["frames"]["mean"][0]) == -(-shape[2] // every)


def test_statistics_that_cannot_fit_are_refused_with_what_they_take():
    with pytest.raises(
        ValueError, match=r"max_bytes \(1000000\) must be larger: it leaves 262500 bytes for statistics"
    ):
        view_of(torch.randn(1, 4000, 1, 1, 1), max_bytes=1_000_000)


def test_many_values_are_left_out_and_it_is_said():
    z = torch.randn(1, 4, 20, 100, 100, generator=torch.Generator().manual_seed(0))
    data = view_of(z, max_bytes=4_000_000).data
    assert data["values"] is None and "The numbers in single cells are left out" in data["note"]
    assert pictures_of(data) <= 3_500_000
    crowded = view_of(z, max_bytes=1_000_000).data
    assert "of the latents cannot be chosen" in crowded["note"] and len(crowded["latents"]) < 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(z=Z[0]), r"z must be \(1, C, L, h, w\), the latents of one clip, got shape \(4, 6, 4, 6\)"),
        (dict(z=Z.repeat(2, 1, 1, 1, 1)), "z must be .1, C, L, h, w., the latents of one clip, got shape"),
        (dict(z=Z / 0 * 0), "z must be finite, got 576 of 576 values NaN or infinite, the first in channel 0"),
        (dict(z=[1.0]), "z must be a tensor or array .1, C, L, h, w., got list"),
        (dict(z=Z.long()), "z must be floating point, got torch.int64"),
        (dict(other=OTHER[:, :2]), "other must have the shape of z"),
        (dict(other=OTHER * float("inf")), "other must be finite"),
        (dict(frames=CLIP.frames[:9]), "z has 6 latent frames, but 9 frames have 3 by timeline: pass that"),
        (dict(frames=CLIP.frames.astype(float)), "frames must be uint8"),
        (dict(frames=CLIP, num_frames=17), r"num_frames \(17\) must be that of frames, 18; it can be left out"),
        (dict(num_frames=0), "num_frames must be"),
        (dict(vae=small_vae()), "num_frames must be given with vae if there are no frames"),
        (dict(timeline="nonsense"), "timeline must be a shapes.Timeline, got str"),
        (dict(timeline="nonsense", vae=small_vae()), "timeline must be a shapes.Timeline, got str"),
        (dict(timeline=Timeline(18), frames=CLIP.frames[:9]), "timeline must be of 9 frames, got one of 18"),
        (dict(timeline=Timeline(18, 1, 17), frames=CLIP, vae=small_vae()), "timeline must be that of vae, Timeline"),
        (dict(timeline=Timeline(18, 4, 9), num_frames=18, vae=small_vae()), "timeline must be that of vae, Timeline"),
        (dict(vae=small_vae(), num_frames=9), "VideoVAE made 6 latent frames of 9 frames, so it is unknown which"),
        (dict(num_frames=10**9), "num_frames must be at most 256 for each of 6 latent frames, got 1000000000"),
        (dict(frames=CLIP.frames[:, :16]), "frames must have the aspect ratio of z: 16x48 pixels"),
        (dict(frames=CLIP.frames[:, :1, :1]), "frames must have the aspect ratio of z: 1x1 pixels"),
        (dict(z=torch.zeros(1, 4, 2, 1, 17000)), "z must be at most 16383 cells high and wide, got .1, 17000."),
        (dict(frames=torch.zeros(2, 3, 18, 32, 48)), "frames must be one clip .1, 3, T, H, W., got shape .2, 3"),
        (dict(frames=torch.zeros(1, 3, 18, 32, 48) / 0), "frames must be finite"),
        (dict(frames=torch.zeros(1, 1, 18, 32, 48)), "frames must have 3 channels, got 1"),
        (dict(frames=torch.zeros(1, 3, 18, 32, 48).byte()), "frames must be floating point, got torch.uint8"),
        (dict(latents_mean=0.0), "latents_mean and latents_std must be given together, got only latents_mean"),
        (dict(latents_mean=[0, 0], latents_std=1), "latents_mean must be a finite number, or one for each of 4"),
        (dict(posterior=DiagonalGaussian(Z)), "posterior must have the shape of z"),
        (dict(max_bytes=500_000), "max_bytes must be at least 1000000, got 500000"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        view_of(**({"z": Z} | arguments))


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="latents.npy is not a file"):
        view_of(tmp_path / "latents.npy")


def test_a_clip_of_frames_given_as_pixels_is_the_same():
    assert view_of(frames=to_tensor(CLIP.frames)).data["frames"] == view_of(frames=CLIP).data["frames"]
