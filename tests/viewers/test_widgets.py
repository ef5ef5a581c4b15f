"""Viewers as data; tests/browser/test_viewers.py shows them in a browser."""

import base64
import io
import json
from contextlib import nullcontext
from datetime import datetime

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import small_vae
from vae_lab import photo_clip, psnr, shapes, to_tensor
from vae_lab.figures.frames import error_map, latent_pictures
from vae_lab.figures.style import COLOURS
from vae_lab.training.loop import Progress
from vae_lab.viewers.arithmetic import explore_padding, explore_sizes
from vae_lab.viewers.frames import compare_frames
from vae_lab.viewers.latents import LatentViewer, explore_latents
from vae_lab.viewers.pictures import MAX_VIEWER_BYTES
from vae_lab.viewers.widgets import TrainingView, VideoUpload, Viewer, save_html

CLIP = photo_clip("coffee", 18, (32, 48))
X = to_tensor(CLIP.frames)
NOISY = X + 0.1 * torch.randn(X.shape, generator=torch.Generator().manual_seed(0))
LATENT = torch.randn(1, 4, 6, 4, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def viewer() -> Viewer:
    return compare_frames({"original": CLIP, "2D only": 255 - CLIP.frames, "full": NOISY}, LATENT, first_frame=100)


def decoded(images) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(image)))) for image in images])


def test_panels_hold_the_exact_pixels(viewer):
    panels = {panel["name"]: panel["views"] for panel in viewer.data["panels"]}
    assert list(panels) == ["original", "2D only", "full", "difference ×4", "latent"]
    assert np.array_equal(decoded(panels["original"][0]["images"]), CLIP.frames)
    assert np.array_equal(decoded(panels["2D only"][0]["images"]), 255 - CLIP.frames)
    difference = {view["name"]: decoded(view["images"]) for view in panels["difference ×4"]}
    assert list(difference) == ["full", "2D only"]
    assert np.array_equal(difference["2D only"], error_map(CLIP.frames, 255 - CLIP.frames, 4))
    pictures = latent_pictures(LATENT[0].numpy())
    assert [view["title"] for view in panels["latent"]] == [f"latent {name}" for name in pictures]
    assert [view["name"] for view in panels["latent"]] == ["PCA", *(f"channel {c}" for c in range(4))]
    for view, frames in zip(panels["latent"], pictures.values(), strict=True):
        assert np.array_equal(decoded(view["images"]), frames)


def test_captions_are_the_metrics(viewer):
    frames = viewer.data["frames"]
    assert [frame["t"] for frame in frames] == list(range(100, 118))
    groups = shapes.frame_groups(18)
    assert [frame["latent"] for frame in frames] == [i for i, group in enumerate(groups) for _ in group]
    assert [frame["chunk"] for frame in frames] == [0] * 17 + [1]
    wanted = psnr(X, NOISY.clamp(-1, 1), data_range=2.0)[0]
    assert np.allclose([frame["values"][1] for frame in frames], wanted, atol=1e-4)
    curves = {curve["name"]: curve["colour"] for curve in viewer.data["curves"]}
    assert curves == {"2D only": COLOURS["spatial"], "full": COLOURS["output"]}


def test_scales_are_fixed_over_time():
    ramp = torch.arange(6.0).view(1, 1, 6, 1, 1).expand(1, 1, 6, 2, 2)
    (view,) = compare_frames({"a": CLIP}, ramp).data["panels"][-1]["views"]
    brightness = decoded(view["images"]).astype(int).sum(axis=(1, 2, 3))
    assert (np.diff(brightness) > 0).all() and brightness[0] == 0
    assert view["title"] == "latent channel 0 (0.0 to 5.0)"


def test_without_latents_or_others():
    data = compare_frames({"a": CLIP}).data
    assert [panel["name"] for panel in data["panels"]] == ["a"]
    assert data["curves"] == [] and {frame["latent"] for frame in data["frames"]} == {None}
    same = compare_frames({"a": CLIP, "b": CLIP})
    assert {frame["values"][0] for frame in same.data["frames"]} == {None}  # infinite: shown as identical


@pytest.fixture(scope="module")
def latents() -> LatentViewer:
    return explore_latents(LATENT, CLIP, vae=small_vae())


def test_everything_is_json_and_small(viewer, latents):
    for widget in (viewer, latents, explore_padding(), explore_sizes()):
        assert json.loads(json.dumps(widget.data, allow_nan=False))
        data, _ = widget._repr_mimebundle_()
        assert set(data) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}
        assert data["text/plain"] == widget.text == repr(widget)
        assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).width > 300


def whole_size(widget: Viewer) -> int:
    """Bytes of everything that a notebook or page keeps of a viewer."""
    data, _ = widget._repr_mimebundle_()
    return len(json.dumps(widget.data)) + len(Viewer._esm) + len(str(widget._css)) + len(data["image/png"])


def test_a_viewer_stays_under_its_limit_and_says_what_it_left_out():
    noise = np.random.default_rng(0).integers(0, 256, (40, 160, 160, 3), np.uint8)
    widget = compare_frames({"noise": noise, "negative": 255 - noise})
    assert 0.5 * MAX_VIEWER_BYTES < whole_size(widget) <= MAX_VIEWER_BYTES == 4_000_000
    assert "of 40 frames is kept, so that all pictures stay under 3.5 MB." in widget.data["note"]
    kept = decoded(widget.data["panels"][0]["views"][0]["images"])
    assert np.array_equal(kept, noise[:: widget.data["frames"][1]["t"]])


def test_large_latents_are_left_out_by_name():
    latent = torch.randn(1, 16, 18, 90, 160, generator=torch.Generator().manual_seed(0))
    widget = compare_frames({"a": CLIP}, latent, timeline=shapes.Timeline(18, 1), max_bytes=2_000_000)
    frames, latents = widget.data["panels"]
    assert np.array_equal(decoded(frames["views"][0]["images"]), CLIP.frames)
    left = 17 - len(latents["views"])
    assert 0 < left < 17
    assert widget.data["note"] == (
        f"{left} views of the latents cannot be chosen (PCA the first of them), so that all pictures stay under 1.5 MB."
    )
    assert whole_size(widget) < 2_000_000
    only = compare_frames({"latent": CLIP}, latent, timeline=shapes.Timeline(18, 1), max_bytes=1_000_000)
    assert [(panel["name"], panel["latent"]) for panel in only.data["panels"]] == [("latent", False)]  # none fits


def test_numbers_of_other_kinds_are_taken():
    timeline = shapes.Timeline(np.int64(18), np.int64(4), np.int64(17))
    numbers = dict(fps=np.float32(12), first_frame=np.int64(3), timeline=timeline)
    odd = compare_frames({"a": CLIP.frames[::-1], "b": X.bfloat16()}, LATENT, **numbers)
    assert np.array_equal(decoded(odd.data["panels"][0]["views"][0]["images"]), CLIP.frames[::-1])
    for widget in (odd, explore_padding(np.int64(3)), explore_sizes(np.int64(33), temporal_ratio=np.int64(4))):
        assert json.dumps(widget.data)
    assert explore_sizes(np.int64(33)).text == explore_sizes(33).text


def test_names_are_never_mathematics(viewer):
    widget = compare_frames({"costs $5 and $6": CLIP, "$\\frac$": NOISY})
    assert len(widget.picture()) > 1000


@pytest.mark.parametrize("size", [(1, 1), (500, 1), (3, 500)])
def test_odd_sizes_have_a_picture(size):
    widget = compare_frames({"a": np.zeros((2, *size, 3), np.uint8)})
    assert Image.open(io.BytesIO(widget.picture())).width > 100


def test_text_alternatives(viewer):
    assert viewer.text.startswith(
        "Frame viewer: 18 frames of 32x48 (height x width), panels original, 2D only, full, difference ×4, latent; "
        "mean PSNR against original: 2D only "
    )
    assert explore_padding(5, 2, 1, 9, 2, "replicate").text == (
        "Padding explorer: kernel 5, stride 2, dilation 1, 9 frames, 2 layers, pad mode replicate"
    )
    assert explore_sizes(18).text == (
        "Size explorer: 18x256x256 (frames x height x width), chunks of 17, temporal ratio 4: latent 6x32x32"
    )


def test_saved_page_holds_script_fallback_and_no_address(viewer, tmp_path):
    path = save_html(viewer, tmp_path / "page.html", "A title")
    text = path.read_text()
    assert "<h1>A title</h1>" in text and "data:image/png;base64," in text and f'alt="{viewer.text}"' in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
    assert len(text) < 4_000_000
    assert "<h1>Frame viewer</h1>" in save_html(viewer, str(path)).read_text()


def test_a_request_from_the_browser_is_answered_and_a_saved_page_keeps_it(latents, tmp_path):
    changes = latents.data["changes"]
    request = {"operation": "zero", "channel": 2}
    latents.request = {"number": 1.5, "request": request}
    assert [answer["request"] for answer in changes["answers"]] == [request]
    latents.request = {"number": 2.5, "request": {"operation": "zero", "channel": 9}}  # an error is no answer
    latents.precompute([{"operation": "amplify", "channel": 0, "factor": 2}, {"operation": "zero", "channel": 1}])
    names = [answer["name"] for answer in changes["answers"]]
    assert names == ["zero channel 2", "channel 0 × 2", "zero channel 1"]
    assert latents.get_state("data")["data"]["changes"]["answers"] == changes["answers"]  # what the browser gets
    assert json.dumps("channel 0 × 2") in save_html(latents, tmp_path / "page.html").read_text()
    frames = decoded(changes["decoded"]["images"])
    assert frames.shape == CLIP.frames.shape and changes["decoded"]["stride"] == 1


def test_precompute_says_what_is_wrong(latents):
    with pytest.raises(ValueError, match="{'operation': 'zero', 'channel': 4}: channel must be an integer from 0 to 3"):
        latents.precompute([{"operation": "zero", "channel": 4}])
    alone = explore_latents(LATENT)
    with pytest.raises(ValueError, match="precompute needs a vae: give explore_latents one"):
        alone.precompute([])
    alone.request = {"number": 1, "request": {"operation": "zero", "channel": 0}}  # nothing decodes it
    assert alone.data["changes"]["answers"] == [] and not alone.data["changes"]["live"]


@pytest.mark.parametrize("answers", [0, 5])
def test_a_latent_viewer_stays_under_its_limit(answers):
    clip = photo_clip("coffee", 33, (128, 128))
    z = torch.randn(1, 4, 9, 16, 16, generator=torch.Generator().manual_seed(0))
    widget = explore_latents(z, clip, vae=small_vae())
    requests = [{"operation": "amplify", "channel": 0, "factor": factor} for factor in range(answers)]
    with pytest.warns(UserWarning, match="precompute left out 1 of 5 answers") if answers else nullcontext():
        widget.precompute(requests)
    assert 1_000_000 < whole_size(widget) <= MAX_VIEWER_BYTES
    assert widget.data["frames"]["stride"] == 1 and widget.data["note"] == ""


def test_upload_gives_a_path(tmp_path):
    upload = VideoUpload()
    assert upload.path is None and repr(upload) == "VideoUpload: nothing chosen yet"
    content = CLIP.frames.tobytes()
    button = upload.children[0]
    file = {"name": "../my clip.mp4", "type": "video/mp4", "size": len(content), "content": memoryview(content)}
    button.value = (file | {"last_modified": datetime.now()},)
    assert upload.path.name == "my clip.mp4" and upload.path.read_bytes() == content
    assert ".." not in upload.path.parts  # no way out of its folder
    assert "my clip.mp4" in upload.children[1].value and repr(upload) == "VideoUpload: my clip.mp4"


def test_training_view_draws_when_it_is_time_and_at_the_end():
    vae = small_vae()
    row = {"step": 2, "stage": "latents", "loss": 0.5, "seconds": 3.0}
    view = TrainingView(X[:, :, :5], every=1000)
    assert repr(view) == "TrainingView: waits for train(…, watch=view)"
    with torch.no_grad():
        y = vae.decode(vae.encode(X[:, :, :5]).latent_dist.mode(), 5).sample
    value = psnr(X[:, :, :5], y.clamp(-1, 1), 2.0).mean().item()
    view(Progress([row], 10, vae))
    first = view.children[1].value
    assert Image.open(io.BytesIO(first)).size[0] > 500
    assert view.children[0].value == (f"step 2 of 10 (latents), loss 0.5, this clip {value:.2f} dB, 12 s left")
    view(Progress([row, row | {"step": 4, "loss": 0.4}], 10, vae))
    assert view.children[1].value == first  # too early
    view(Progress([row, row | {"step": 10, "loss": 0.2}], 10, vae))
    assert view.children[1].value != first and "step 10 of 10" in repr(view)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_frames({}), "videos must hold at least one clip"),
        (lambda: compare_frames(CLIP), "videos must be a dict, title -> clip, got Clip"),
        (lambda: compare_frames({"a": [1]}), "'a' must be a tensor, frames uint8 .T, H, W, 3. or a Clip, got list"),
        (lambda: compare_frames({"a": CLIP.frames.astype(float)}), "frames must be uint8"),
        (
            lambda: compare_frames({"a": CLIP, "b": CLIP.frames[:5]}),
            r"videos must have the same shape, got 'a' \(18, 32, 48, 3\) and 'b' \(5, 32, 48, 3\)",
        ),
        (lambda: compare_frames({"a": X.repeat(2, 1, 1, 1, 1)}), "x must be one clip of shape"),
        (lambda: compare_frames({"a": CLIP, "b": X * float("nan")}), "x must be finite"),
        (lambda: compare_frames({"a": CLIP}, gain=0), "gain must be above 0 and finite, got 0"),
        (lambda: compare_frames({"a": CLIP}, gain=float("inf")), "gain must be above 0 and finite, got inf"),
        (lambda: compare_frames({"a": CLIP}, max_bytes=500_000), "max_bytes must be at least 1000000, got 500000"),
        (lambda: compare_frames({"a": (X * 100).to(torch.uint8)}), "x must be floating point, got torch.uint8"),
        (lambda: compare_frames({1: CLIP}), "titles must be text, got 1"),
        (lambda: compare_frames({"a": CLIP}, LATENT[:, :0]), r"latent must not be empty, got shape \(1, 0, 6, 4, 6\)"),
        (lambda: compare_frames({"a": np.zeros((1, 1, 20000, 3), np.uint8)}), "'a' must be at most 16383 pixels high"),
        (lambda: explore_padding(5, 3, 1, 8, 3), "size .2. plus padding .2. must be at least the kernel's reach .5."),
        (lambda: compare_frames({"a": CLIP}, fps=0), "fps must be above 0 and finite, got 0"),
        (lambda: compare_frames({"a": CLIP}, fps=float("nan")), "fps must be above 0 and finite, got nan"),
        (lambda: compare_frames({"a": CLIP}, torch.zeros(1, 1, 6, 1, 17000)), "latent must be at most 16383 cells"),
        (lambda: compare_frames({"a": CLIP}, LATENT[0]), r"latent must be .1, C, .*of one clip, got shape .4, 6, 4, 6"),
        (
            lambda: compare_frames({"a": CLIP}, LATENT[:, :, :5]),
            "latent has 5 latent frames, but 18 frames have 6 by timeline: pass that of the model",
        ),
        (lambda: compare_frames({"a": CLIP}, timeline=4), "timeline must be a shapes.Timeline, got int"),
        (lambda: compare_frames({"a": CLIP}, timeline=shapes.Timeline(17)), "timeline must be of 18 frames, got one"),
        (lambda: compare_frames({"a": CLIP}, LATENT, timeline=4), "timeline must be a shapes.Timeline, got int"),
        (
            lambda: compare_frames({"a": CLIP}, LATENT, timeline=shapes.Timeline(17)),
            "timeline must be of 18 frames, got one of 17",
        ),
        (lambda: compare_frames({"a": CLIP}, LATENT * float("inf")), "latent must be finite"),
        (lambda: explore_sizes(np.array([3, 4])), "num_frames must be 1 to .* here, got array"),
        (lambda: explore_padding(kernel_size=9), "kernel_size must be 1 to 5 here, got 9"),
        (lambda: explore_padding(num_frames=0), "num_frames must be 1 to 20 here, got 0"),
        (lambda: explore_padding(pad_mode="mirror"), "pad_mode must be one of .* here, got 'mirror'"),
        (lambda: explore_padding(1, stride=2), "stride .2. must not be larger than the kernel's reach"),
        (lambda: explore_sizes(num_frames=103), "num_frames must be 1 to 102 here, got 103"),
        (lambda: explore_sizes(height=100), "height must be 8 to 1024 in steps of 8 here, got 100"),
        (lambda: explore_sizes(micro_frame_size=16), r"micro_frame_size must be one of \(None, 5, .* here, got 16"),
        (lambda: explore_latents(LATENT[0]), r"z must be \(1, C, L, h, w\), the latents of one clip, got shape"),
        (lambda: explore_latents(LATENT * float("nan")), "z must be finite, got 576 of 576 values NaN or infinite"),
        (lambda: save_html(VideoUpload(), "x.html"), "widget must be a viewer of vae_lab.viewers, got VideoUpload"),
    ],
)  # fmt: skip
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_saving_into_no_folder(viewer, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save_html(viewer, tmp_path / "nowhere" / "page.html")
    for folder in ("", tmp_path):
        with pytest.raises(IsADirectoryError, match="path must be a file, got the folder"):
            save_html(viewer, folder)


def test_a_refused_precompute_leaves_the_viewer_whole():
    viewer = explore_latents(LATENT, CLIP, vae=small_vae())
    sent = []
    viewer.send_state = sent.append
    right, wrong = {"operation": "zero", "channel": 0}, {"operation": "zero", "channel": 99}
    with pytest.raises(ValueError, match="'channel': 99}: channel must be an integer from 0 to 3, got 99"):
        viewer.precompute([right, wrong])
    assert sent == [] and viewer.data["changes"]["answers"] == []
    viewer.answers._budget.left, room = 5, viewer.answers._budget.left
    with pytest.raises(ValueError, match="max_bytes"):
        viewer.precompute([right])
    assert sent == ["data"]  # what was made before goes to the browser
    viewer.answers._budget.left = room
    assert viewer.answers.answer(right)["decoded"] is not None  # the frames come with the first live answer


def test_numbers_of_numpy_are_saved(tmp_path):
    viewer = explore_latents(LATENT, num_frames=np.int64(len(CLIP)))
    assert save_html(viewer, tmp_path / "a.html").stat().st_size > 10_000
    with pytest.raises(ValueError, match="title must be text, got 5"):
        save_html(viewer, tmp_path / "b.html", title=5)


def test_the_picture_of_noise_stays_small():
    noise = np.random.default_rng(0).integers(0, 256, (17, 256, 256, 3), np.uint8)
    assert len(explore_latents(torch.randn(1, 16, 5, 64, 64), noise).picture()) <= 150_000
