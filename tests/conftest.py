"""Fixtures: the golden model, a browser, the notebooks' pages."""

import os
import pickle
import shutil
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from filelock import FileLock, Timeout
from hypothesis import settings

from tests.helpers import GOLDEN, ROOT, script
from tests.helpers.browser import offline_pages
from tests.helpers.processes import forked_kernels
from vae_lab import VideoVAE, load

if "PYTEST_XDIST_WORKER" in os.environ:  # every process has a core of its own, and so have those that it starts
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

# Kernels and scripts that tests start in other folders import this tree, whatever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

# No deadline: the first call of a shape is slow. In CI the examples are the same every time.
settings.register_profile("lab", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("lab")


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


@pytest.fixture
def open_page(browser):
    with offline_pages(browser) as open_it:
        yield open_it


def pytest_collection_modifyitems(items):
    """Mark what needs Chromium or the notebooks' pages, and let the longest kinds of tests begin.

    pytest-xdist gives the first half of the tests to one of the two processes of `make test`, and lets them steal from
    each other at the end. So both halves begin with what uses the notebooks' pages, which the processes make together.
    Then one starts JupyterLab, and the other opens pages without it. Both end with quick tests, so that neither waits
    for a long one of the other.
    """
    for item in items:
        for fixture, marker in (("browser", "browser"), ("pages_of_notebooks", "notebook")):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
    order = ("notebook", "browser", "slow")
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in order])
    kinds = [[item for item in items if item.get_closest_marker(name)] for name in order[:2]]
    notebooks, pages = kinds[0], [item for item in kinds[1] if item not in kinds[0]]
    lab = [item for item in pages if "lab" in item.fixturenames]
    first, second = [*notebooks[::2], *lab], [*notebooks[1::2], *(item for item in pages if item not in lab)]
    others = items[len(first) + len(second) :]
    slow = [item for item in others if item.get_closest_marker("slow")]
    first, second = [*first, *slow[: len(slow) // 2]], [*second, *slow[len(slow) // 2 :]]
    quick = others[len(slow) :]
    left = len(items) // 2 - len(first)
    if left > 0:
        items[:] = [*first, *quick[:left], *second, *quick[left:]]


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
    """Made once for all tests. The processes that need them share the notebooks, and failures too."""
    make_pages = script("make_pages")
    folder = shared_folder / "site"

    def run(path: Path, parameters: dict, timeout: float = -1):
        kept = shared_folder / f"{path.stem}.run"
        with FileLock(kept.with_suffix(".lock"), timeout):
            if not kept.exists():
                try:
                    with forked_kernels():
                        made = tuple(make_pages.execute(path, parameters))
                except Exception:
                    made = traceback.format_exc()
                kept.write_bytes(pickle.dumps(made))
        made = pickle.loads(kept.read_bytes())
        if isinstance(made, str):
            pytest.fail(f"the notebooks' pages cannot be made:\n{made}", pytrace=False)
        return make_pages.Run(*made)

    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    for path in paths:
        with suppress(Timeout):  # another process executes it
            run(path, smoke, timeout=0)
    with FileLock(shared_folder / "site.lock"):
        if not folder.exists():
            make_pages.build(ROOT / "notebooks", folder, smoke, run)
    return NotebookPages(folder, [run(path, smoke) for path in paths])
