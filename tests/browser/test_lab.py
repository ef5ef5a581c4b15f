"""The viewers in a live JupyterLab, in a real Chromium."""

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import numpy as np
import pytest
import torch

from tests.helpers import ROOT, canvas_pixels
from tests.helpers.browser import STEP
from vae_lab import load, read_video, synthetic_clip, to_frames, to_tensor
from vae_lab.figures.frames import error_map

CELLS = {
    "frames": """from vae_lab import photo_clip
from vae_lab.viewers import VideoUpload, compare_frames, explore_flow, explore_padding, explore_sizes
clip = photo_clip("coffee", 17, (128, 128)).frames
compare_frames({"original": clip, "2D only": clip[:, ::-1].copy(), "full": 255 - clip})""",
    "padding": "explore_padding()",
    "sizes": "explore_sizes()",
    "flow": "explore_flow([255 - clip, clip // 2, clip], [clip // 3, clip // 2, clip], [1000, 750, 0])",
    "upload": "upload = VideoUpload(); upload",
}
TRAINING = [
    """from vae_lab import synthetic_clip, to_tensor
from vae_lab.training import TrainConfig, train
from vae_lab.viewers import TrainingView
model = dict(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=1, mid_block_add_attention=False)
stage = dict(name="pixels", steps=60, learning_rate=1e-3, batch_size=2)
config = TrainConfig.from_dict(dict(part="spatial", model=model, stages=[stage], size=32, log_every=1))
view = TrainingView(to_tensor(synthetic_clip("shapes", 5, (32, 32)).frames), every=0.5)
view""",
    """import tempfile
folder = tempfile.TemporaryDirectory()
train(config, folder.name, watch=view, progress=False)
print("trained")""",
]
LATENTS = [
    """import torch
from vae_lab import load, synthetic_clip, to_tensor
from vae_lab.viewers import explore_latents
clip, vae = synthetic_clip("shapes", 9, (64, 64)), load("lab")
with torch.no_grad():
    z = vae.encode(to_tensor(clip.frames)).latent_dist.mode()
viewer = explore_latents(z, clip, vae=vae, other=z.flip(4))
viewer""",
    """broken = load("lab")
broken.decode = lambda z, num_frames: 1 / 0
explore_latents(z, clip, vae=broken)""",
    """later = explore_latents(z, clip, vae=vae)
later""",
    """import numpy as np
later.precompute([{"operation": "amplify", "channel": np.int64(3), "factor": np.float32(2)}])""",
]


# `jupyter lab`, with kernels that are forked
FORKING = """import runpy, sys
from jupyterlab.labapp import main
del sys.argv[0]
helpers = runpy.run_path(sys.argv[0])
with helpers["forked_kernels"]():
    helpers["ensure_running"]()
    sys.exit(main())"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory, browser):
    """Address of a JupyterLab over a copy of the notebooks, and the copy's folder."""
    folder = tmp_path_factory.mktemp("lab")
    for name in ("notebooks", "data", "docs/images/lessons"):
        shutil.copytree(ROOT / name, folder / name)
    kernel = nbformat.read(folder / "notebooks" / "00_start_here.ipynb", as_version=4).metadata
    for name, sources in (("viewers", CELLS.values()), ("training", TRAINING), ("latents", LATENTS)):
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (started,) = re.findall(
        r"jupyter lab notebooks/00_start_here.ipynb (.+)", (ROOT / "Makefile").read_text()
    )  # as `make lab` starts it
    options = (
        *shlex.split(started), f"--port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}",
        "--IdentityProvider.token=",
        "--no-browser", "--allow-root", "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    )  # fmt: skip
    command = [sys.executable, "-c", FORKING, str(ROOT / "tests" / "helpers" / "processes.py"), *options]
    with (
        open(folder / "server.log", "w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as server,
    ):
        address = f"http://localhost:{port}"
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"{address}/api", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.5)
            else:
                raise RuntimeError((folder / "server.log").read_text())
            yield address, folder
        finally:
            server.terminate()


@pytest.fixture
def run_all(lab, browser):
    """Opens a notebook and runs all its cells, in JupyterLab's own theme of that name."""
    contexts = []

    def open_it(path, theme="JupyterLab Light"):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{lab[0]}/lab/tree/{path}?reset")
        page.wait_for_selector(".jp-Notebook", timeout=60_000)
        page.get_by_text("| Idle").wait_for(timeout=60_000)
        page.get_by_role("menuitem", name="Settings").click()
        page.get_by_text("Theme", exact=True).hover()
        page.get_by_text(theme, exact=True).click()
        page.wait_for_function(f"document.body.dataset.jpThemeName === '{theme}'")
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        return page

    yield open_it
    for context in contexts:
        context.close()


def active_cell(page) -> int:
    cells = "[...document.querySelectorAll('.jp-Notebook .jp-Cell')]"
    return page.evaluate(f"{cells}.findIndex((cell) => cell.classList.contains('jp-mod-active'))")


def test_start_here_plays_under_the_keys(run_all):
    page = run_all("notebooks/00_start_here.ipynb")
    viewer = page.locator(".vae-lab")
    page.wait_for_selector(".vae-lab[data-ready=true]", timeout=120_000)
    frames = read_video(ROOT / "data" / "astronaut.mp4", num_frames=18, size=(128, 128)).frames
    viewer.locator("canvas").first.click()
    cell, count = active_cell(page), page.locator(".jp-Notebook .jp-Cell").count()
    assert count == len(json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text("utf-8"))["cells"])
    for key, t in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("PageDown", 11),
        ("End", 17),
        ("PageUp", 7),
    ):
        page.keyboard.press(key)
        assert viewer.get_attribute("data-frame") == str(t)
        assert np.array_equal(canvas_pixels(viewer.locator("canvas").first), frames[t])
    page.keyboard.press("Home")
    for key in ("j", "d", "d", "a", "ArrowDown"):  # JupyterLab's own keys stay out of it
        page.keyboard.press(key)
    assert active_cell(page) == cell and page.locator(".jp-Notebook .jp-Cell").count() == count
    viewer.locator("button:text-is('2D only')").click()
    assert "difference ×4: 2D only" in viewer.locator("figcaption").all_inner_texts()
    page.keyboard.press(" ")
    page.wait_for_function("Number(document.querySelector('.vae-lab').dataset.frame) >= 4")
    still = page.locator("img[src*='docs/images/lessons/00_2.webp']")
    assert not still.is_visible()  # a picture with controls that do nothing, for readers without a viewer
    page.get_by_role("menuitem", name="Edit", exact=True).click()
    page.get_by_text("Clear Outputs of All Cells", exact=True).click()
    still.wait_for(state="visible", timeout=10_000)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_all_viewers_and_the_upload(run_all, theme, capsys, tmp_path):
    page = run_all("viewers.ipynb", theme)
    page.wait_for_function("document.querySelectorAll('.vae-lab[data-ready=true]').length === 4", timeout=60_000)
    frames, padding, sizes, flow = page.locator(".vae-lab").all()
    ground, text = frames.evaluate("(e) => [getComputedStyle(e).color, getComputedStyle(e).colorScheme]")
    assert text == ("dark" if theme.endswith("Dark") else "light") and ground
    for viewer in (frames, padding, sizes, flow):
        viewer.scroll_into_view_if_needed()
        box = viewer.bounding_box()
        assert box["x"] + box["width"] <= 1280 and box["height"] < 690  # one screen below Lab's bars
    frames.scroll_into_view_if_needed()
    times = sorted(page.evaluate(STEP, key) for key in ["ArrowRight", "ArrowLeft"] * 50)
    with capsys.disabled():
        print(f"\nstep to paint in {theme}: median {times[49]:.1f} ms, 95th percentile {times[94]:.1f} ms")
    padding.locator("input[aria-label^=stride]").fill("2")
    assert "= 1" in padding.locator("[data-line='padding in front']").inner_text()
    sizes.locator("button:text-is('none')").click()
    assert "13" in sizes.locator("[data-line='latent frames']").inner_text()
    (tmp_path / "mine.mp4").write_bytes(bytes(12_000_000))  # above Jupyter's own limit
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a video").click()
    chooser.value.set_files(tmp_path / "mine.mp4")
    page.get_by_text("mine.mp4, 12.00 MB: run the next cell").wait_for()
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_text("Shut Down Kernel", exact=True).click()
    page.get_by_text("No Kernel").or_(page.get_by_text("Unknown")).first.wait_for()
    frames.focus()
    page.keyboard.press("End")
    assert frames.get_attribute("data-frame") == "16"  # no kernel is asked
    flow.focus()
    page.keyboard.press("ArrowRight")
    assert flow.get_attribute("data-point") == "1"


def test_a_training_is_seen_while_it_runs(run_all):
    page = run_all("training.ipynb")
    label = page.locator(".widget-label").filter(has_text="of 60")
    seen = set()
    while page.get_by_text("trained", exact=True).count() == 0:
        seen |= set(label.all_inner_texts())
        page.wait_for_timeout(50)
    assert len(seen) >= 3  # it moved while the cell ran
    assert "step 60 of 60 (pixels)" in label.inner_text()
    picture = page.locator(".widget-image")
    assert picture.evaluate("(image) => image.naturalWidth") > 500
    assert picture.bounding_box()["width"] > 300


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_kernel_decodes_changed_latents(run_all, theme, capsys):
    page = run_all("latents.ipynb", theme)
    page.wait_for_function("document.querySelectorAll('.vae-lab[data-ready=true]').length === 3", timeout=60_000)
    viewer, broken, later = page.locator(".vae-lab").all()
    vae, clip = load("lab"), synthetic_clip("shapes", 9, (64, 64))
    with torch.no_grad():
        z = vae.encode(to_tensor(clip.frames)).latent_dist.mode()
        decoded = to_frames(vae.decode(z, 9).sample)
        changed = {name: z.clone() for name in (0, 1, "swap")}
        changed[0][:, 0] = 0
        changed[1][:, 1] = 0
        changed["swap"][:, 1] = z.flip(4)[:, 1]
        frames = {name: to_frames(vae.decode(other, 9).sample) for name, other in changed.items()}

    def assert_shown(name, t=0):
        page.wait_for_function("(t) => document.querySelector('.vae-lab').dataset.answerFrame === t", arg=str(t))
        found = [canvas_pixels(canvas).astype(int) for canvas in viewer.locator(".results canvas").all()]
        for picture, right in zip(found, (decoded[t], frames[name][t]), strict=False):
            assert np.abs(picture - right).max() <= 1  # the kernel may sum in another order
        shown = found[0][None].astype(np.uint8), found[1][None].astype(np.uint8)
        assert np.array_equal(found[2], error_map(*shown)[0])

    def wait_for(text):
        viewer.locator(".status").filter(has_text=text).wait_for(timeout=60_000)

    click = lambda text: viewer.get_by_role("button", name=text, exact=True).click()  # noqa: E731
    click("change")
    assert viewer.locator(".status").inner_text().startswith("Press Decode or Enter")
    assert not viewer.locator(".results").is_visible()
    begin = time.perf_counter()
    click("Decode")
    assert viewer.locator(".decode").inner_text() == "Decoding …" and viewer.locator(".decode").is_disabled()
    wait_for("zero channel 0: RMS difference")
    with capsys.disabled():
        print(f"\nfrom Decode to the answer, 9 frames of 64 px: {time.perf_counter() - begin:.2f} s")
    assert_shown(0)
    viewer.get_by_role("slider", name="Frame").fill("6")
    assert_shown(0, 6)

    # two are asked for at once: each answer goes to its own question
    group = viewer.get_by_role("group", name="channel")
    group.get_by_role("button", name="1", exact=True).click()
    assert not viewer.locator(".results").is_visible()  # what was shown is not passed off as this
    click("Decode")
    click("swap with the other clip")
    click("Decode")
    wait_for("channel 1 of the other clip: RMS difference")
    assert_shown("swap", 6)
    click("zero")
    wait_for("zero channel 1: RMS difference")
    assert_shown(1, 6)
    assert viewer.locator(".kept button").all_inner_texts() == [
        "zero channel 0",
        "zero channel 1",
        "channel 1 of the other clip",
    ]

    broken.get_by_role("button", name="change", exact=True).click()
    for _ in range(2):  # what failed can be asked for again
        broken.get_by_role("button", name="Decode", exact=True).click()
        broken.locator(".wrong").filter(has_text="ZeroDivisionError: division by zero").wait_for()

    # what was decoded after the viewer was shown is in it too
    later.get_by_role("button", name="change", exact=True).click()
    later.locator(".kept button").filter(has_text="channel 3 × 2").wait_for()
    assert later.locator(".status").inner_text().startswith("channel 3 × 2: RMS difference")
    later.get_by_role("slider", name="factor").press("ArrowRight")
    later.get_by_role("slider", name="factor").press("Enter")  # while it has the focus
    later.locator(".kept button").filter(has_text="channel 3 × 2.25").wait_for()
