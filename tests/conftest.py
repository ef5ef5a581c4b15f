"""What several tests share: the golden model, a small model of our own, and a browser."""

import base64
import importlib.util
import io
import os
import pickle
import shutil
import signal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from PIL import Image

from vae_lab import VideoVAE, load

if "PYTEST_XDIST_WORKER" in os.environ:  # every process has a core of its own, and so have those that it starts
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

# No deadline: the first call of a shape is slow. In CI the examples are the same every time.
settings.register_profile("lab", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("lab")

LONGEST = ("test_ablation.py", "test_training.py", "test_lab_browser.py", "test_notebooks.py", "test_site_browser.py")
FIRST = "test_notebooks_are_quick_and_small"


def heeding_interrupts() -> None:
    """`preexec_fn` of a process that is sent SIGINT: where the tests run in the background it would ignore that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[1]

SMALL_SPATIAL = dict(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4)
SMALL_TEMPORAL = dict(base_channels=4, num_res_blocks=1, channel_multipliers=(1, 1, 2), norm_num_groups=2)


def small_vae(seed: int = 0, temporal: dict | None = None, **config) -> VideoVAE:
    """A VideoVAE of a few thousand random weights; time is halved twice unless `temporal` says otherwise."""
    torch.manual_seed(seed)
    temporal = SMALL_TEMPORAL | dict(temporal_downsample=(True, True)) | (temporal or {})
    return VideoVAE(SMALL_SPATIAL, temporal, **config).eval()


@pytest.fixture(scope="session")
def golden_vae() -> VideoVAE:
    return load(GOLDEN / "checkpoint", spatial_config=GOLDEN / "spatial")


@pytest.fixture(scope="session")
def golden_cases() -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(GOLDEN / "cases.safetensors")


@pytest.fixture(scope="session")
def browser():
    """A real Chromium, offline. Where there is none the test is skipped, but in CI it fails."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None and not os.environ.get("CI"):
        pytest.skip("no Chromium on this machine: install Debian's package chromium to run this test")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


def pytest_collection_modifyitems(items):
    """The longest files begin, so that neither of the two processes of `make test` is left with one at the end.

    Before them stands one test of the notebooks: its process makes the pages, while the other one is busy with files
    that need none.
    """
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    first = next((i for i, item in enumerate(items) if item.name == FIRST), None)
    if first is not None:
        items.insert(0, items.pop(first))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def script(name: str):
    """A script of data/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "data" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """The same for all processes of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()  # of a process it lies in that of all
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def smoke(shared_folder) -> dict:
    """For the cells tagged "parameters": long trainings are cut short, and all processes share what is trained."""
    return {"smoke": True, "out": str(shared_folder / "ablations")}


class NotebookPages(NamedTuple):
    """What `make notebooks` makes, with `smoke`."""

    folder: Path
    runs: list


@pytest.fixture(scope="session")
def pages_of_notebooks(shared_folder, smoke) -> NotebookPages:
    """Made once for all tests: by the first process that asks, while another one waits."""
    from vae_lab import site

    folder, kept = shared_folder / "site", shared_folder / "runs.pickle"
    with FileLock(shared_folder / "site.lock"):
        if not kept.exists():
            kept.write_bytes(pickle.dumps(site.build(ROOT / "notebooks", folder, smoke)))
    return NotebookPages(folder, pickle.loads(kept.read_bytes()))


def canvas_pixels(canvas) -> np.ndarray:
    """What a canvas of the browser holds, uint8 (H, W, 3), from its own lossless PNG."""
    address = canvas.evaluate("(canvas) => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB"))
