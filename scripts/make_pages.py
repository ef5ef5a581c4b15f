"""Write the notebooks as linked pages that work offline: `python scripts/make_pages.py NOTEBOOKS OUT`.

`make notebooks` writes those of `notebooks/` to `out/site/`. Every notebook is executed from scratch and becomes a page
with its outputs, formulas as MathML, and viewers whose controls work without a kernel or a network. index.html lists
the pages with the time and memory of each notebook. If a notebook fails, OUT stays as it was.

A code cell tagged "check" is folded, and so is what it prints if that is long. A cell tagged "still" is left out: it
holds a picture for readers who see the notebook without its viewers.
"""

import argparse
import base64
import html
import os
import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tqdm import tqdm

from vae_lab.utils.extras import needs_extra
from vae_lab.utils.files import folder_beside
from vae_lab.viewers import page

with needs_extra("pages"):
    import nbformat
    from latex2mathml.converter import convert as to_mathml
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
MEASURE = """import resource, sys
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))"""  # bytes
STYLE = Path(__file__).with_suffix(".css")
MARK = "<meta name='generator' content='vae_lab.site'>"  # in every page; `build` replaces only such
TIMEOUT = 3600  # seconds a cell may take
SHORT = 6  # lines that a folded cell may print and still show
# nbconvert's own template, but for cells whose metadata has `folded`: what of them to fold
TEMPLATE = """{% extends 'index.html.j2' %}
{% block codecell %}
{% if cell.metadata.folded == 'all' %}<details class="check"><summary>Check: code and output</summary>{% endif %}
{{ super() }}
{% if cell.metadata.folded == 'all' %}</details>{% endif %}
{% endblock %}
{% block input_group %}
{% if cell.metadata.folded == 'code' %}<details class="check"><summary>Check: the code</summary>{% endif %}
{{ super() }}
{% if cell.metadata.folded == 'code' %}</details>{% endif %}
{% endblock %}"""


class Run(NamedTuple):
    """One executed notebook."""

    path: Path
    notebook: nbformat.NotebookNode
    seconds: float
    peak_bytes: int

    @property
    def title(self) -> str:
        return title(self.path, self.notebook)

    @property
    def question(self) -> str:
        """The bold sentence below the heading, or an empty string."""
        return _first_match(r"\*\*(.+?)\*\*", self.notebook)


def title(path: Path, notebook: nbformat.NotebookNode | None = None) -> str:
    """The first heading of a notebook, or the file's name if there is none."""
    return _first_match(r"^# (.+)$", notebook or nbformat.read(path, as_version=4)) or path.stem


def _first_match(pattern: str, notebook: nbformat.NotebookNode) -> str:
    match = re.search(pattern, notebook.cells[0].source if notebook.cells else "", re.M | re.S)
    return match[1].splitlines()[0] if match else ""


def execute(path: Path, notebook: nbformat.NotebookNode | None = None) -> Run:
    """Run a notebook in a new kernel: the file's, or what was read from it and then changed.

    Raises nbclient's CellExecutionError if a cell fails.
    """
    notebook = notebook or nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(MEASURE))  # removed again below
    quiet = ["--log-level=40"]  # the kernel must not warn that it listens on this machine
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(
        notebook, timeout=TIMEOUT, resources=resources, extra_arguments=quiet, coalesce_streams=True
    )
    begin = time.perf_counter()
    client.execute(env=os.environ | {"TQDM_DISABLE": "1"})  # the page would show every state of a bar
    seconds = time.perf_counter() - begin
    return Run(path, notebook, seconds, int(notebook.cells.pop().outputs[0].text))


def replace_viewers(notebook: nbformat.NotebookNode) -> None:
    """Replace each viewer's widget with its section of a page, and other widgets with their picture or a sentence."""
    states = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            bundle = output.get("data", {})
            if VIEW not in bundle:
                continue
            state = states[bundle[VIEW]["model_id"]]["state"]
            data, picture = state.get("data"), _picture_inside(state, states)
            text = html.escape(bundle["text/plain"])
            if data and "kind" in data:
                section = "".join(page.section_parts(data, base64.b64decode(bundle["image/png"]), bundle["text/plain"]))
            elif picture:
                section = f"<img alt='{text}' src='data:image/png;base64,{picture}'>"
            else:
                section = f"<p class='away'>{text} (this control works in JupyterLab only)</p>"
            output.data = {"text/html": section}
    notebook.metadata.pop("widgets", None)


def _picture_inside(state: dict, states: dict) -> str:
    """The PNG, in base64, that a box of widgets shows at the end; an empty string if it shows none."""
    for child in state.get("children", ()):
        entry = states.get(child.removeprefix("IPY_MODEL_"), {})
        if entry.get("model_name") == "ImageModel":
            return next((buffer["data"] for buffer in entry.get("buffers", ()) if buffer["path"] == ["value"]), "")
    return ""


# Code, in which there are no formulas: fenced blocks and inline spans
CODE = re.compile(r"(^```.*?^```|^~~~.*?^~~~|`[^`\n]+`)", re.S | re.M)
BLOCK = re.compile(r"(?<!\\)\$\$(.+?)\$\$", re.S)
# The rule of Jupyter and pandoc: no space inside the dollars and no digit after them, so prices stay prices
INLINE = re.compile(r"(?<![\\$])\$(?!\s)([^$\n]+?)(?<![\s\\])\$(?![\d$])")


def replace_formulas(source: str) -> str:
    """Replace the formulas of a Markdown cell with MathML, which browsers draw without help. Code stays as it is.

    Raises ValueError for a formula that latex2mathml cannot convert.
    """
    parts = CODE.split(source)
    for i in range(0, len(parts), 2):
        text = BLOCK.sub(lambda m: _math(m[1].strip(), display="block"), parts[i])
        parts[i] = INLINE.sub(lambda m: _math(m[1]), text)
    return "".join(parts)


def _math(formula: str, display: str = "inline") -> str:
    try:
        return to_mathml(formula, display=display)
    except Exception as error:  # latex2mathml raises many kinds, without messages
        raise ValueError(f"cannot convert the formula {formula!r}: {type(error).__name__}") from None


def replace_links(source: str) -> str:
    """Point links to notebooks at their pages, and replace links to other files of the repository with their paths."""
    source = re.sub(r"(\]\([\w.-]+)\.ipynb(#[^)]*)?\)", lambda m: f"{m[1]}.html{m[2] or ''})", source)
    named = lambda m: f"`{m[2]}`" if m[2].endswith(m[1].strip("`")) else f"{m[1]} (`{m[2]}`)"  # noqa: E731
    return re.sub(r"!?\[([^]]*)\]\(\.\./([^)]+)\)", named, source)


def fold_checks(notebook: nbformat.NotebookNode) -> None:
    """Mark the code cells tagged "check" for TEMPLATE: the code is folded, and the outputs too if they are long."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "check" in cell.metadata.get("tags", ()):
            texts = (output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
            cell.metadata.folded = "all" if sum(len(text.splitlines()) for text in texts) > SHORT else "code"


def to_page(run: Run, titles: Mapping[Path, str]) -> str:
    """Return the notebook as HTML, with links to the pages of all notebooks, whose paths and titles are given.

    Raises ValueError, with the notebook's name, for a formula that cannot be converted.
    """
    notebook = nbformat.from_dict(run.notebook)
    replace_viewers(notebook)
    fold_checks(notebook)
    notebook.cells = [cell for cell in notebook.cells if "still" not in cell.metadata.get("tags", ())]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            try:
                cell.source = replace_links(replace_formulas(cell.source))
            except ValueError as error:
                raise ValueError(f"{run.path.name}: {error}") from None
    hidden = dict(exclude_input_prompt=True, exclude_output_prompt=True)
    exporter = HTMLExporter(template_name="basic", raw_template=TEMPLATE, **hidden)
    body, _ = exporter.from_notebook_node(notebook)
    links = "".join(
        f"<a href='{_address(path)}'{' aria-current=page' if path == run.path else ''}>{html.escape(name)}</a>"
        for path, name in titles.items()
    )
    return _page(run.title, f"<nav><a href='index.html'>vae_lab</a>{links}</nav>{body}", page.script() + "mountAll();")


def _address(notebook: Path) -> str:
    return quote(f"{notebook.stem}.html")


def index_page(runs: list[Run]) -> str:
    """Return the page that lists all notebooks with their time and memory."""
    cells = [
        (f"<a href='{_address(run.path)}'>{html.escape(run.title)}</a>", html.escape(run.question), *run[2:])
        for run in runs
    ]
    cells.append(("all", "", sum(run.seconds for run in runs), max(run.peak_bytes for run in runs)))
    rows = (
        f"<tr><td>{name}</td><td>{question}</td><td>{seconds:.0f} s</td><td>{peak_bytes / 1e9:.2f} GB</td></tr>"
        for name, question, seconds, peak_bytes in cells
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return _page(
        "vae_lab",
        "<h1>vae_lab</h1><p>The lab's notebooks, executed from scratch. Their sliders and buttons work here, offline; "
        "to change code, open them in JupyterLab with <code>make lab</code>.</p>"
        "<table class='index'><tr><th>notebook</th><th>question</th><th>time</th><th>peak memory</th></tr>"
        f"{''.join(rows)}</table>"
        f"<p class='away'>Measured by <code>make notebooks</code> on {cores} cores ({platform.machine()}).</p>",
    )


def _page(title: str, body: str, script: str = "") -> str:
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    style = page.asset("page.css") + page.asset("viewer.css") + STYLE.read_text("utf-8")
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"{MARK}<title>{html.escape(title)}</title>"
        f"<style>{style}{light}@media (prefers-color-scheme: dark) {{ {dark} }}</style></head>"
        f"<body><main>{body}</main><script>{script}</script></body></html>"
    )


def build(notebooks: Path, out: Path) -> list[Run]:
    """Execute all notebooks of a folder, and then replace the pages in `out` with theirs.

    Args:
        notebooks: the folder; FileNotFoundError if it has no notebooks, ValueError if one is called index.ipynb.
        out: folder for the pages; FileExistsError if it has anything but pages that this function wrote.
    """
    paths = sorted(notebooks.glob("*.ipynb"))
    if not paths:
        raise FileNotFoundError(f"there are no notebooks in {notebooks}")
    if any(path.stem == "index" for path in paths):
        raise ValueError("a notebook must not be called index.ipynb: index.html lists them all")
    if out.is_symlink() or out.exists() and not (out.is_dir() and all(map(_is_ours, out.iterdir()))):
        raise FileExistsError(f"{out} is not a folder of notebooks' pages only: choose a new folder")
    runs = [execute(path) for path in tqdm(paths, unit="notebook")]
    titles = {run.path: run.title for run in runs}
    pages = {f"{run.path.stem}.html": to_page(run, titles) for run in runs} | {"index.html": index_page(runs)}
    with folder_beside(out) as folder:
        for name, text in pages.items():
            (folder / name).write_text(text, encoding="utf-8")
    return runs


def _is_ours(path: Path) -> bool:
    if path.suffix != ".html" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return MARK in file.read(1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", type=Path, help="folder of notebooks")
    parser.add_argument("out", type=Path, help="folder for the pages; pages in it are replaced")
    arguments = parser.parse_args()
    for run in build(arguments.notebooks, arguments.out):
        print(f"{run.path.stem:24} {run.seconds:4.0f} s  {run.peak_bytes / 1e9:.2f} GB")
    print(f"open {arguments.out / 'index.html'} in a browser")


if __name__ == "__main__":
    main()
