"""Fixtures: the golden model, a browser, the notebooks' pages. And which tests are slow, and in which order all run."""

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.helpers import GOLDEN, ROOT
from tests.helpers.browser import offline_pages
from vae_lab import VideoVAE, load

DURATIONS = ROOT / "tests" / "durations.json"  # of SLOW tests, by their names: `pytest --keep-durations` writes it
SLOW = 0.15  # seconds on two cores from which on `make check` leaves a test out
_TOOK: Counter[str] = Counter()

if "PYTEST_XDIST_WORKER" in os.environ:  # every process has a core of its own, and so have those that it starts
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

# Kernels and scripts that tests start in other folders import this tree, whatever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

# No deadline: the first call of a shape is slow. In CI the examples are the same every time.
settings.register_profile("lab", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("lab")


def pytest_addoption(parser):
    parser.addoption("--keep-durations", action="store_true", help="write which tests are slow to tests/durations.json")


def pytest_runtest_logreport(report):
    _TOOK[report.nodeid] += report.duration


def pytest_sessionfinish(session):
    if session.config.getoption("--keep-durations") and not hasattr(session.config, "workerinput"):
        slow = {name: round(seconds, 2) for name, seconds in sorted(_TOOK.items()) if seconds >= SLOW}
        DURATIONS.write_text(json.dumps(slow, indent=0, ensure_ascii=False) + "\n", "utf-8")


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
    """Mark what is slow or needs Chromium or the notebooks' pages, and let the longest kinds of tests begin.

    pytest-xdist gives the first half of the tests to one of the two processes of `make test`, and lets them steal from
    each other at the end. So both halves begin with notebooks: one with all tests of 00, 02, 04 and so on, the other
    with those of 01, 03, 05, and neither waits until the other has executed one. Tests of notebooks that name none come
    next. Then one process starts JupyterLab, and the other opens pages without it. Both end with quick tests, so that
    neither waits for a long one of the other. Last comes what needs all notebooks.
    """
    took = json.loads(DURATIONS.read_text("utf-8"))
    for item in items:
        if item.nodeid in took:
            item.add_marker("slow")
        for fixture, marker in (("browser", "browser"), ("pages_of_notebooks", "notebook")):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
    needing_all = [item for item in items if "index_of_notebooks" in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in needing_all]
    order = ("notebook", "browser", "slow")
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in order])
    kinds = [[item for item in items if item.get_closest_marker(name)] for name in order[:2]]
    pages = [item for item in kinds[1] if item not in kinds[0]]
    lab = [item for item in pages if "lab" in item.fixturenames]
    lesson = {item: int(match[1]) for item in kinds[0] if (match := re.search(r"[-\[](\d\d)_", item.name))}
    even, odd = ([item for item in sorted(lesson, key=lesson.get) if lesson[item] % 2 == i] for i in (0, 1))
    rest = [item for item in kinds[0] if item not in lesson]
    first, second = [*even, *rest[::2], *lab], [*odd, *rest[1::2], *(item for item in pages if item not in lab)]
    others = items[len(first) + len(second) :]
    slow = [item for item in others if item.get_closest_marker("slow")]
    first, second = [*first, *slow[: len(slow) // 2]], [*second, *slow[len(slow) // 2 :]]
    quick = others[len(slow) :]
    left = max(0, len(items) // 2 - len(first))
    items[:] = [*first, *quick[:left], *second, *quick[left:], *needing_all]


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


@pytest.fixture(scope="session")
def pages_of_notebooks(shared_folder, smoke):
    from tests.helpers.notebooks import NotebookPages

    return NotebookPages(shared_folder / "site", smoke)


@pytest.fixture(scope="session")
def index_of_notebooks(pages_of_notebooks) -> Path:
    """The page that lists all notebooks. It needs all of them, so tests with it come last."""
    return pages_of_notebooks.page("index")
