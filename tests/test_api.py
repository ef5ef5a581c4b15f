"""No public name is lost, and every import that a reader copies from README, docs or a notebook works."""

import json
import re
from importlib import import_module

import pytest

from tests.helpers import ROOT

INVENTORY = json.loads((ROOT / "tests" / "api.json").read_text())
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("data/**/*.md"))]
IMPORT = re.compile(r"^[ >]*from (vae_lab[\w.]*) import (?:\(([^)]*)\)|([^\n(#]*))", re.M)


@pytest.mark.parametrize("module", INVENTORY)
def test_no_public_name_is_lost(module):
    found = import_module(module)
    assert [name for name in INVENTORY[module] if not hasattr(found, name)] == []


def imports_in(text: str) -> list[tuple[str, str]]:
    """(module, name) of each name that a text imports from the package."""
    return [
        (module, name.split(" as ")[0].strip())
        for module, several, one in IMPORT.findall(text)
        for name in (several or one).split(",")
        if name.strip()
    ]


def code_of(notebook) -> str:
    return "\n".join("".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"])


@pytest.mark.parametrize("path", [*PAGES, *sorted((ROOT / "notebooks").glob("*.ipynb"))], ids=lambda path: path.name)
def test_what_readers_import_is_there(path):
    found = imports_in(code_of(path) if path.suffix == ".ipynb" else path.read_text())
    assert found or path.suffix == ".md"
    assert [pair for pair in found if not hasattr(import_module(pair[0]), pair[1])] == []


def test_imports_are_found_as_people_write_them():
    text = "from vae_lab import load, psnr  # two\n    from vae_lab.shapes import (\n  a as b,\n  c,\n)\nimport torch\n"
    wanted = [("vae_lab", "load"), ("vae_lab", "psnr"), ("vae_lab.shapes", "a"), ("vae_lab.shapes", "c")]
    assert imports_in(text) == wanted
