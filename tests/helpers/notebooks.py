"""The notebooks, executed once for all tests: with their exercises' solutions, and without them as pages."""

import pickle
import re
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest
from filelock import FileLock, Timeout

from tests.helpers import ROOT, script
from tests.helpers.processes import forked_kernels

# Hidden cells around a solution: what is drawn after it is what a reader draws who does not run it
SAVE = """import random as _random
import numpy as _numpy
import torch as _torch
_before = _random.getstate(), _numpy.random.get_state(), _torch.get_rng_state()"""
RESTORE = """_random.setstate(_before[0])
_numpy.random.set_state(_before[1])
_torch.set_rng_state(_before[2]);"""


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def set_parameters(notebook: nbformat.NotebookNode, parameters: Mapping[str, Any]) -> None:
    """Insert a cell that sets these names after the cell tagged "parameters". A notebook without one stays as it is."""
    tagged = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
    if tagged and parameters:
        source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(source))


def solution_of(cell: nbformat.NotebookNode) -> str | None:
    """The Python of the folded solution that a Markdown cell holds. Hints may be folded beside it, without Python."""
    if cell.cell_type != "markdown" or "<details>" not in cell.source:
        return None
    folded = dict(re.findall(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", cell.source, re.S))
    assert cell.source.count("<details") == len(folded) and set(folded) <= {"Hint 1", "Hint 2", "Solution"}, cell.source
    found = {name: re.findall(r"```python\n(.*?)```", text, re.S) for name, text in folded.items()}
    (solution,) = found.pop("Solution")
    assert not any(found.values()), "a hint must not hold Python that nothing runs"
    return solution


def insert_solutions(notebook: nbformat.NotebookNode) -> None:
    """Insert each folded solution, as code that is hidden from pages, after the cell that holds it."""
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if solution := solution_of(cell):
            for source, part in ((SAVE, "save"), (solution, "solution"), (RESTORE, "restore")):
                cells.append(nbformat.v4.new_code_cell(source, metadata={"hidden": part}))
    notebook.cells = cells


class Executed(NamedTuple):
    run: Any
    """make_pages.Run: what becomes the page, without the solutions."""
    solutions: list[nbformat.NotebookNode]
    """The cells of the solutions, with what they printed."""


class NotebookPages:
    """What `make notebooks` makes, with `parameters`, one by one: whichever process first needs a notebook executes it.

    The processes share the notebooks, the pages and the failures. None waits for another for longer than one notebook.
    """

    def __init__(self, folder: Path, parameters: dict):
        self._folder, self._parameters, self._make_pages = folder, parameters, script("make_pages")
        self._paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
        folder.mkdir(exist_ok=True)

    def executed(self, path: Path, timeout: float = -1) -> Executed:
        """filelock.Timeout if another process has executed the notebook for longer than `timeout`."""
        kept = self._folder / f"{path.stem}.run"
        with FileLock(kept.with_suffix(".lock"), timeout):
            if not kept.exists():
                try:
                    made = self._execute(path)
                except Exception:
                    made = traceback.format_exc()
                kept.write_bytes(pickle.dumps(made))
        made = pickle.loads(kept.read_bytes())
        if isinstance(made, str):
            pytest.fail(f"the page of {path.name} cannot be made:\n{made}", pytrace=False)
        run, solutions = made
        return Executed(self._make_pages.Run(*run), solutions)

    def _execute(self, path: Path) -> tuple[tuple, list]:
        notebook = read(path)
        set_parameters(notebook, self._parameters)
        insert_solutions(notebook)
        with forked_kernels():
            run = self._make_pages.execute(path, notebook)
        solutions = [cell for cell in notebook.cells if cell.metadata.get("hidden") == "solution"]
        notebook.cells = [cell for cell in notebook.cells if "hidden" not in cell.metadata]
        return tuple(run), solutions  # pickle does not know the class of `run`: its module is a script

    def run(self, path: Path):
        """The executed notebook, without the solutions."""
        return self.executed(path).run

    def page(self, stem: str) -> Path:
        """The page of one notebook, which may lead to pages that are not there yet, or "index", and then all pages."""
        if stem == "index":
            for path in self._paths:
                with suppress(Timeout):  # another process executes it
                    self.executed(path, timeout=0)
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
