"""Fixtures: the golden model, a browser, the notebooks' pages."""

import os
import pickle
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from tests.helpers import GOLDEN, ROOT
from vae_lab import VideoVAE, load

if "PYTEST_XDIST_WORKER" in os.environ:  # every process has a core of its own, and so have those that it starts
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

# No deadline: the first call of a shape is slow. In CI the examples are the same every time.
settings.register_profile("lab", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("lab")

LONGEST = (
    "ablation/test_runner.py",
    "training/test_loop.py",
    "browser/test_lab.py",
    "notebooks/test_notebooks.py",
    "browser/test_site.py",
)
FIRST = "test_notebooks_are_quick_and_small"


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
    place = {ROOT / "tests" / name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))
    first = next((i for i, item in enumerate(items) if item.name == FIRST), None)
    if first is not None:
        items.insert(0, items.pop(first))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


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
    from vae_lab.lessons import site

    folder, kept = shared_folder / "site", shared_folder / "runs.pickle"
    with FileLock(shared_folder / "site.lock"):
        if not kept.exists():
            kept.write_bytes(pickle.dumps(site.build(ROOT / "notebooks", folder, smoke)))
    return NotebookPages(folder, pickle.loads(kept.read_bytes()))
