"""The pages: a short front page, no dead link or path, examples that run, and generated parts that are fresh."""

import json
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from urllib.parse import unquote

import pytest
import torch

from tests.helpers import ROOT, script
from vae_lab.cli import build_parser
from vae_lab.families import FAMILIES, codec as codecs
from vae_lab.families.sizes import size_rows
from vae_lab.latents.edits import EDITS
from vae_lab.metrics import FRAME_METRICS
from vae_lab.probes.report import PROBES

TRACKED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True
).stdout.split()
PAGES = sorted(ROOT / name for name in TRACKED if (ROOT / name).is_file())
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
NOT_RUN = re.compile(r"<!-- not run: [^\n]+ -->\n```python\n.*?^```$", re.S | re.M)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
# Paths in backticks that a reader would look for in the repository
PATH = re.compile(r"`((?:vae_lab|tests|data|docs|scripts|notebooks|benchmarks)/[\w./-]*)`")
TO_BE_WRITTEN = ("contrast.py", "11_tiling.ipynb", "lesson_11_tiling.py")  # by a reader of docs/extending.md
TABLES = (FAMILIES, codecs._REGISTERED, EDITS, FRAME_METRICS, PROBES)
SLOW = {"ablations.md": {"steps=240": "steps=3", "cached_clips=96": "cached_clips=6", "(0, 1, 2)": "(0,)"}}


def prose(page: Path) -> str:
    """The text of a page, or of a notebook's Markdown cells, without code blocks."""
    text = page.read_text("utf-8")
    if page.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
    return FENCE.sub("", text)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Relative links and pictures of a page that lead nowhere."""
    found = []
    for match in LINK.finditer(prose(page)):
        address = unquote(match[1] or match[2])
        if re.match(r"[a-z]+:", address):
            continue
        path, _, anchor = address.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            found.append(address)
    return found


def test_the_front_page_is_short():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 110
    assert len(text.split()) <= 900


def test_the_front_page_shows_what_the_demo_prints(tmp_path):
    """The words are exact, the numbers to a thousandth: the last digits may differ from CPU to CPU."""
    makefile, text = ((ROOT / name).read_text("utf-8") for name in ("Makefile", "README.md"))
    words = re.search(r"vae-lab (reconstruct .+)", makefile)[1].split()
    command = [sys.executable, "-m", "vae_lab", *words[:2], tmp_path / "demo"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    shown = re.search(r"^```text\n(.*?)^```$", text, re.S | re.M)[1].splitlines()
    printed = [line for line in run.stdout.splitlines() if not line.startswith(("model", "wrote"))]
    number = re.compile(r"\d+(?:\.\d+)?")
    assert [number.sub("#", line) for line in shown] == [number.sub("#", line) for line in printed], run.stderr
    numbers = ([float(value) for line in lines for value in number.findall(line)] for lines in (shown, printed))
    assert next(numbers) == pytest.approx(next(numbers), rel=1e-3)


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "b.md").write_text("# One `two`-three\n```\n[code](is-not-searched)\n```\n")
    page = tmp_path / "a.md"
    page.write_text('[a](b.md) [b](b.md#one-two-three) [c](b.md#four) ![d](e.png) [f](https://x.y/z) <img src="g.gif">')
    assert broken_links(page) == ["b.md#four", "e.png", "g.gif"]


@by_name
def test_paths_that_are_named_exist(page):
    named = [path for path in PATH.findall(prose(page)) if not path.endswith(TO_BE_WRITTEN)]
    if page.name != "CHANGELOG.md":
        assert [path for path in named if not (ROOT / path).exists()] == []


def test_all_data_is_described():
    """Every file and folder of data/ has a row in its README, so a visitor knows what it is and where it is from."""
    text = (ROOT / "data" / "README.md").read_text("utf-8")
    tracked = subprocess.run(["git", "ls-files", "data"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    names = {Path(name).parts[1] for name in tracked} - {"README.md"}
    assert len(names) > 5
    assert [name for name in sorted(names) if f"`{name}`" not in text and f"`{name}/`" not in text] == []


@by_name
def test_commands_are_understood(page):
    """Every `vae-lab` in a shell block is a command line that the parser takes."""
    blocks = [body for language, body in FENCE.findall(page.read_text("utf-8")) if language == "sh"]
    for line in "\n".join(blocks).splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0].endswith("vae-lab"):
            build_parser().parse_args(words[1:])
        if words and words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), line
        if words and words[0] == "python" and words[1].startswith("scripts/"):
            assert (ROOT / words[1]).is_file(), line


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder with the repository's data, as the examples expect it. What they register is forgotten."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    gradients, tables = torch.is_grad_enabled(), [(table, dict(table)) for table in TABLES]
    yield tmp_path
    torch.set_grad_enabled(gradients)
    for table, before in tables:
        table.clear()
        table.update(before)


def examples(page: Path) -> list[str]:
    text = NOT_RUN.sub("", page.read_text("utf-8"))
    return [body for language, body in FENCE.findall(text) if language == "python"]


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda page: page.name)
def test_examples_run_in_order(page, workplace):
    names: dict = {"__name__": "__main__"}
    for number, source in enumerate(examples(page)):
        for text, shorter in SLOW.get(page.name, {}).items():
            assert text in source
            source = source.replace(text, shorter)
        exec(compile(source, f"{page.name}, example {number}", "exec"), names)


def test_the_api_page_is_fresh():
    """If this fails, run `make docs`."""
    page = script("make_api_page").page()
    assert page == (ROOT / "docs" / "api.md").read_text("utf-8")


def test_the_table_of_families_is_fresh():
    """If this fails, paste what `vae-lab sizes 49x480x720 --family all` prints into docs/families.md."""
    table = "\n".join(size_rows(49, 480, 720))
    assert f"```text\n{table}\n```" in (ROOT / "docs" / "families.md").read_text("utf-8")


def test_the_import_diagram_is_fresh():
    """If this fails, run `make docs`."""
    assert script("make_import_diagram").diagram() in (ROOT / "docs" / "design.md").read_text("utf-8")


def test_the_changelog_leads_from_paths_that_are_gone_to_paths_that_are_there():
    rows = re.findall(r"^\| `(vae_lab[^`]+)` \| `([^`]+)` \|", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert len(rows) > 60
    assert [new for _, new in rows if not exists(new)] == []
    assert [old for old, _ in rows if exists(old)] == []


def exists(dotted: str) -> bool:
    """Whether the module `vae_lab.module` can be imported, or `vae_lab.module.name` is there."""
    try:
        import_module(dotted) if dotted.count(".") == 1 else resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True
