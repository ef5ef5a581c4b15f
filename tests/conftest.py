"""Fixtures: the golden model, a browser, the notebooks' pages."""

import os
import pickle
import re
import shutil
import traceback
from contextlib import suppress
from pathlib import Path

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
    each other at the end. So both halves begin with notebooks: one with all tests of 00, 02, 04 and so on, the other
    with those of 01, 03, 05, and neither waits until the other has executed one. Tests of notebooks that name none come
    next. Then one process starts JupyterLab, and the other opens pages without it. Both end with quick tests, so that
    neither waits for a long one of the other.
    """
    for item in items:
        for fixture, marker in (("browser", "browser"), ("pages_of_notebooks", "notebook")):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
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


class NotebookPages:
    """What `make notebooks` makes, with `smoke`, one by one: whichever process first needs a notebook executes it.

    The processes share the notebooks, the pages and the failures. None waits for another for longer than one notebook.
    """

    def __init__(self, folder: Path, parameters: dict):
        self._folder, self._parameters, self._make_pages = folder, parameters, script("make_pages")
        self._paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
        folder.mkdir(exist_ok=True)

    def run(self, path: Path, timeout: float = -1):
        """The executed notebook. filelock.Timeout if another process has executed it for longer than `timeout`."""
        kept = self._folder / f"{path.stem}.run"
        with FileLock(kept.with_suffix(".lock"), timeout):
            if not kept.exists():
                try:
                    with forked_kernels():
                        made = tuple(self._make_pages.execute(path, self._parameters))
                except Exception:
                    made = traceback.format_exc()
                kept.write_bytes(pickle.dumps(made))
        made = pickle.loads(kept.read_bytes())
        if isinstance(made, str):
            pytest.fail(f"the page of {path.name} cannot be made:\n{made}", pytrace=False)
        return self._make_pages.Run(*made)

    def page(self, stem: str) -> Path:
        """The page of one notebook, which may lead to pages that are not there yet, or "index", and then all pages."""
        if stem == "index":
            for path in self._paths:
                with suppress(Timeout):  # another process executes it
                    self.run(path, timeout=0)
            for path in self._paths:
                self.page(path.stem)
            write = lambda: self._make_pages.index_page([self.run(path) for path in self._paths])  # noqa: E731
        else:
            run = self.run(ROOT / "notebooks" / f"{stem}.ipynb")
            titles = {path: self._make_pages.title(path) for path in self._paths}
            write = lambda: self._make_pages.to_page(run, titles)  # noqa: E731
        page = self._folder / f"{stem}.html"
        with FileLock(page.with_suffix(".html.lock")):
            if not page.exists():
                page.write_text(write(), encoding="utf-8")
        return page


@pytest.fixture(scope="session")
def pages_of_notebooks(shared_folder, smoke) -> NotebookPages:
    return NotebookPages(shared_folder / "site", smoke)
