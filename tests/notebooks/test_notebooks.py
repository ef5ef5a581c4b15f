"""The notebooks: they run, their solutions are right, a broken library breaks them, and they stay plain."""

import ast
import dis
import importlib
import json
import shutil
from types import CodeType

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import vae_lab
from tests.helpers import ROOT, script
from tests.helpers.notebooks import insert_solutions, read, set_parameters, solution_of
from tests.helpers.processes import forked_kernels

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
make_pages = script("make_pages")
LESSONS = [path for path in NOTEBOOKS if not path.stem.startswith("00")]
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def code(path) -> list[str]:
    """The Python of every code cell; magics are left out."""
    sources = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    return ["\n".join(line for line in source.splitlines() if not line.startswith("%")) for source in sources]


def execute(notebook, path, **options) -> None:
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=300, resources=resources, extra_arguments=["--log-level=40"])
    with forked_kernels():
        client.execute(**options)


def texts(cell) -> list[str]:
    """What a cell prints, as one text (how it is cut up is chance), and then the texts of its results. What it says on
    stderr is left out: there it waits for another process.
    """
    outputs = cell.get("outputs", [])
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    return [printed, *(output.data.get("text/plain", "") for output in outputs if "data" in output)]


# ---- running -------------------------------------------------------------------------------------------------------


@by_name
def test_solutions_are_right(path, pages_of_notebooks):
    """Every solution is run after its question. No cell warns."""
    run, solutions = pages_of_notebooks.executed(path)
    assert [texts(cell) for cell in solutions if not texts(cell)[-1].startswith("✓ ")] == []
    assert [cell.source for cell in solutions] == list(filter(None, map(solution_of, read(path).cells)))
    assert len(solutions) >= (4 if path in LESSONS else 0)
    outputs = (output for cell in [*run.notebook.cells, *solutions] for output in cell.get("outputs", ()))
    assert [output.text for output in outputs if output.get("name") == "stderr" and "Warning" in output.text] == []


@pytest.mark.notebook
def test_the_same_twice(pages_of_notebooks):
    """A notebook whose solutions nobody runs prints what it prints in the run with them."""
    notebook, run = read(NOTEBOOKS[0]), pages_of_notebooks.run(NOTEBOOKS[0])
    execute(notebook, NOTEBOOKS[0])
    assert [texts(cell) for cell in notebook.cells] == [texts(cell) for cell in run.notebook.cells]


@pytest.mark.notebook
def test_a_solution_changes_no_draw_after_it(tmp_path):
    draw = "print(random.random(), numpy.random.rand(), numpy.random.randn(), torch.rand(1).item())"
    seed = "import random, numpy, torch\nrandom.seed(0), numpy.random.seed(0), torch.manual_seed(0);"
    solution = f"<details><summary>Solution</summary>\n\n```python\n{draw}\n```\n</details>"
    code, markdown = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    notebook = nbformat.v4.new_notebook(cells=[code(seed), markdown(solution), code(draw), code(draw)])
    insert_solutions(notebook)
    execute(notebook, tmp_path / "draws.ipynb")
    *_, solved, _, first, second = (texts(cell)[0] for cell in notebook.cells)
    assert solved == first != second


def uses_of(code: CodeType | str) -> list[tuple[str, str]]:
    """(name, "read" or "bound") for each use of a global name, in order. Functions read where they are defined."""
    if isinstance(code, str):
        code = compile("\n".join(line for line in code.splitlines() if line[:1] != "%"), "cell", "exec")
    uses: list[tuple[str, str]] = []
    for step in dis.get_instructions(code):
        if isinstance(step.argval, CodeType):
            uses += uses_of(step.argval)
        elif step.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            uses.append((step.argval, "read"))
        elif step.opname in ("STORE_NAME", "STORE_GLOBAL"):
            uses.append((step.argval, "bound"))
    return uses


def changed_and_read(cells) -> list[str]:
    """Names that a solution binds and a later cell of code reads, though no cell in between binds them again."""
    found, changed = [], set()
    for cell in cells:
        if cell.cell_type == "code":
            for name, use in uses_of(cell.source):
                found += [name] if use == "read" and name in changed else []
                changed -= {name} if use == "bound" else set()
        elif solution := solution_of(cell):
            changed |= {name for name, use in uses_of(solution) if use == "bound"}
    return found


@by_name
def test_a_solution_changes_no_name_that_a_later_cell_reads(path):
    assert changed_and_read(read(path).cells) == []


@pytest.mark.parametrize(
    ("later", "found"),
    [
        ("print(x)", ["x"]), ("x += 1", ["x"]), ("def later():\n    return x", ["x"]), ("[x for _ in y]", ["x"]),
        ("x = 1\nprint(x)", []), ("for x in y:\n    print(x)", []), ("import x\nx.y", []), ("y = lambda x: x", []),
        ("from y import f\nf(1)", []), ("f(1)", ["f"]),
    ],
)  # fmt: skip
def test_a_name_that_a_solution_changes_is_found(later, found):
    solution = "<details><summary>Solution</summary>\n\n```python\nx = 1\ndef f(z):\n    y = z\n```\n</details>"
    code, markdown = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    assert changed_and_read([code("print(x, f)"), markdown(solution), code("y = [1]"), code(later)]) == found


@by_name
def test_notebooks_are_quick_and_small(path, pages_of_notebooks):
    assert pages_of_notebooks.run(path).peak_bytes < 2e9
    assert path.stat().st_size < 200_000
    page = pages_of_notebooks.page(path.stem)
    assert page.stat().st_size < 15e6
    assert "all pictures stay under" not in page.read_text("utf-8"), "the page leaves frames out"


BREAKAGES = {  # what is broken -> (module, text, broken text, notebook that must notice)
    "padding on the wrong side": (
        "utils/convolutions", "width))[:, :, :length]", "width))[:, :, -length:]", "01",
    ),
    "a dropped 1 - stride": ("shapes", "return reach - stride", "return reach - 1", "01"),
    "padding on the wrong axis": (
        "utils/convolutions", "(time + front, height, width)", "(height, width, time + front)", "01",
    ),
    "a latent size off by one": ("shapes", "return num_frames // chunk *", "return 1 + num_frames // chunk *", "02"),
    "front padding behind": (
        "temporal_vae", "front_padding(x.shape[2], self.temporal_compression_ratio), 0))",
        "0, front_padding(x.shape[2], self.temporal_compression_ratio)))", "02",
    ),
    "reversed channels in depth to time": (
        "temporal_vae", "x = x.unflatten(1, (-1, factor))", "x = x.unflatten(1, (factor, -1)).transpose(1, 2)", "02",
    ),
    "a past from the wrong end": (
        "causal_conv",
        "frames[:, :, y.shape[2] * self.conv.stride[0] :]",
        "frames[:, :, : frames.shape[2] - y.shape[2] * self.conv.stride[0]]", "06",
    ),
    "statistics over all frames": (
        "temporal_vae",
        "return super().forward(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)",
        "return super().forward(frames.transpose(1, 2))", "04",
    ),
    "normalize the wrong way round": (
        "video_vae",
        "return ((z - self.shift.to(z.device)) / self.scale.to(z.device))",
        "return (z * self.scale + self.shift)", "05",
    ),
    "an interval with a degree of freedom too many": (
        "ablation/results", "stdtrit(pairs - 1, 0.975)", "stdtrit(pairs, 0.975)", "08",
    ),
    "one frame more than may be seen": ("shapes", "return [group.stop - 1 for", "return [group.stop for", "04"),
    "a velocity of the other sign": ("generation/rectified_flow", "return x0 - noise", "return noise - x0", "10"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_is_to_be_broken_is_there(name):
    """Quick, so that `make check` tells when the library's text has changed."""
    module, text, broken, _ = BREAKAGES[name]
    assert (ROOT / "vae_lab" / f"{module}.py").read_text().count(text) == 1 and text != broken


@pytest.mark.notebook
@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_library_breaks_a_notebook(name, tmp_path, monkeypatch):
    module, text, broken, number = BREAKAGES[name]
    package = shutil.copytree(ROOT / "vae_lab", tmp_path / "vae_lab", ignore=shutil.ignore_patterns("__pycache__"))
    source = (package / f"{module}.py").read_text()
    assert source.count(text) == 1
    (package / f"{module}.py").write_text(source.replace(text, broken))
    (tmp_path / "data").symlink_to(ROOT / "data")  # where `load` looks for the weights
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = next(path for path in LESSONS if path.stem.startswith(number))
    with pytest.raises(CellExecutionError) as error:
        execute(read(path), path)
    assert error.value.ename in ("AssertionError", "RuntimeError")


def test_parameters_are_set_behind_their_cell():
    cells = [nbformat.v4.new_code_cell(source) for source in ("a = 1", "b = 2", "c = a")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    set_parameters(notebook, {"a": 5})
    assert len(notebook.cells) == 3  # none is tagged
    cells[1].metadata["tags"] = ["parameters"]
    set_parameters(notebook, {"b": "x", "n": 3})
    assert [cell.source for cell in notebook.cells] == ["a = 1", "b = 2", "b = 'x'\nn = 3", "c = a"]


# ---- what they are made of -----------------------------------------------------------------------------------------


@by_name
def test_plain_cells(path):
    """No classes, no long functions or cells, few imports: what is reusable is in the package."""
    trees = []
    for source in code(path):
        assert len(source.splitlines()) <= 20, source
        trees += ast.walk(ast.parse(source))
    assert not any(isinstance(node, ast.ClassDef) for node in trees)
    functions = [node for node in trees if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions if node.end_lineno - node.lineno >= 15] == []
    assert sum(isinstance(node, ast.Import | ast.ImportFrom) for node in trees) <= 4


@by_name
def test_public_names_only(path):
    for source in code(path):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_"), node.attr
            if not isinstance(node, ast.ImportFrom) or not node.module.startswith("vae_lab"):
                continue
            names = {alias.name for alias in node.names}
            assert not any(name.startswith("_") for name in names)
            if node.module == "vae_lab":
                assert names <= set(vae_lab.__all__)
            else:
                assert names <= set(dir(importlib.import_module(node.module)))


@lessons
def test_formulas_are_checked_and_predictions_asked(path):
    """An assertion over at least 50 cases stands within two code cells of each displayed formula."""
    cells = read(path).cells
    formulas = [i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and "$$" in cell.source]
    assert formulas
    predictions = 0
    for i in formulas:
        following = [cell.source for cell in cells[i + 1 :] if cell.cell_type == "code"][:2]
        assert any("assert" in source and ">= 50" in source for source in following), cells[i].source
    for cell, nxt in zip(cells, cells[1:], strict=False):
        if "**Predict.**" in cell.source or "**Predict**" in cell.source:
            assert nxt.cell_type == "code" and "answer = ..." in nxt.source and "check(answer)" in nxt.source
            predictions += 1
    assert predictions >= 3


@by_name
def test_all_begin_and_end_alike(path):
    """With a question, what it needs and how long it takes; and with the answers, and what people asked."""
    first, *_, last = (cell.source for cell in read(path).cells)
    assert first.startswith(f"# {path.stem[:2]} · ") and "?**" in first
    parts = ("**You need**", "**Time**", "**Afterwards you can answer**")
    assert [part for part in parts if part not in first] == []
    parts = ("## What you can answer now", "## Questions people ask", *["Next:"][: path != NOTEBOOKS[-1]])
    assert [part for part in parts if part not in last] == []


@lessons
def test_an_exercise_has_hints_in_two_steps(path):
    hinted = [cell for cell in read(path).cells if solution_of(cell) and cell.source.count("<summary>Hint ") == 2]
    assert hinted and all("Hint 1" in cell.source and "Hint 2" in cell.source for cell in hinted)


def test_every_lesson_leads_to_the_next():
    for path, following in zip(NOTEBOOKS, NOTEBOOKS[1:], strict=False):
        assert f"({following.name})" in read(path).cells[-1].source, path.name


def test_the_map_names_every_notebook():
    start = read(NOTEBOOKS[0]).cells[0].source
    for path in NOTEBOOKS[1:]:
        assert f"({path.name})" in start
    readme, gallery = ((ROOT / folder / "README.md").read_text() for folder in (".", "notebooks"))
    assert [path.name for path in NOTEBOOKS if f"](notebooks/{path.name})" not in readme] == []
    assert [path.name for path in NOTEBOOKS if f"]({path.name})" not in gallery] == []
    assert [path.name for path in NOTEBOOKS if f"images/lessons/{path.stem[:2]}_" not in gallery] == []


# ---- the pages -----------------------------------------------------------------------------------------------------


def test_formulas_and_links_of_the_pages():
    formulas = lambda source: make_pages.replace_formulas(source).count("<math")  # noqa: E731
    assert formulas("a $x^2$ and `$y$`\n```\n$z$\n```\n~~~\n$z$\n~~~") == 1
    assert formulas("costs $5 and $6, or \\$5 and $ 6 $") == 0
    assert formulas("$a$, $b$ and $$c$$") == 3
    assert 'display="block"' in make_pages.replace_formulas("$$\\frac{1}{2}$$")
    with pytest.raises(ValueError, match=r"cannot convert the formula '\\\\frac': "):
        make_pages.replace_formulas("$\\frac$")
    assert make_pages.replace_links("[01](01_a.ipynb#s), [card](../data/lab/README.md), ![a](../b.png)") == (
        "[01](01_a.html#s), card (`data/lab/README.md`), a (`b.png`)"
    )
    assert make_pages.replace_links("[`a.py`](../scripts/a.py)") == "`scripts/a.py`"


def test_checks_are_folded_and_stills_are_left_out():
    code, markdown = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    printing = lambda n: [nbformat.v4.new_output("stream", text="".join(f"line {i}\n" for i in range(n)))]  # noqa: E731
    cells = [
        markdown("# Title"),
        code("shown = 1", outputs=printing(20)),
        code("short = 2", outputs=printing(6), metadata={"tags": ["check"]}),
        code("long = 3", outputs=printing(7), metadata={"tags": ["check"]}),
        markdown("![a picture](../docs/images/a.webp)", metadata={"tags": ["still"]}),
    ]
    run = make_pages.Run(ROOT / "a.ipynb", nbformat.v4.new_notebook(cells=cells), 1.0, 1)
    page = make_pages.to_page(run, {run.path: run.title})
    _, short, long = page.split("<details")
    folded, open_below = short.split("</details>")
    assert "Check: the code</summary>" in folded and "short" in folded and "line 5" in open_below
    assert "Check: code and output</summary>" in long
    assert "long" in long.split("</details>")[0] and "line 6" in long.split("</details>")[0]
    assert "a picture" not in page and [cell.get("metadata") for cell in run.notebook.cells[1:2]] == [{}]


def test_the_solution_is_found_among_hints():
    hint = "<details><summary>Hint 1</summary>Count.</details>"
    solution = "<details>\n<summary>Solution</summary>\n\n```python\ncheck(1)\n```\n\nOne.\n\n</details>"
    cell = nbformat.v4.new_markdown_cell
    assert solution_of(cell(f"{hint}\n\n{solution}")) == solution_of(cell(solution)) == "check(1)\n"
    assert solution_of(cell("text")) is None
    for wrong in (hint, solution.replace("Solution", "Answer"), hint.replace("Count.", "```python\n1\n```") + solution):
        with pytest.raises((AssertionError, KeyError)):
            solution_of(cell(wrong))


def tiny_notebook(folder, name: str, *sources: str):
    cells = [nbformat.v4.new_markdown_cell(source) for source in sources]
    (folder / name).write_text(json.dumps(nbformat.v4.new_notebook(cells=cells)))


@pytest.mark.notebook
def test_plain_notebooks_have_pages_too(tmp_path):
    """No heading, no question, no cell, a name with a quote; a second run takes the place of the first."""
    (tmp_path / "in").mkdir()
    tiny_notebook(tmp_path / "in", "it's #1.ipynb")
    tiny_notebook(tmp_path / "in", "second.ipynb", "text alone")
    out = tmp_path / "new" / "out"
    for _ in range(2):
        make_pages.build(tmp_path / "in", out)
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "it's #1.html", "second.html"]
    assert "href='it%27s%20%231.html'" in (out / "index.html").read_text()
    assert [path.name for path in out.parent.iterdir()] == ["out"]  # nothing left beside


def test_a_new_lesson_is_a_notebook_and_a_module(tmp_path, monkeypatch):
    """Its question is found by the notebook's kernel, and its page is listed. Nothing else is edited."""
    shutil.copytree(ROOT / "vae_lab", tmp_path / "vae_lab", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "vae_lab" / "lessons" / "lesson_09_sums.py").write_text("""from .quiz import Question, Questions

QUESTIONS: Questions = {"one and one": Question(2, "Two: one and one.", "Count them.")}
""")
    cells = [
        nbformat.v4.new_markdown_cell("# 09 · Sums\n\n**What is one and one?** Count them."),
        nbformat.v4.new_code_cell('from vae_lab.lessons import question\n\nquestion("one and one")(2)'),
    ]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "09_sums.ipynb")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (run,) = make_pages.build(tmp_path / "notebooks", tmp_path / "out")
    assert texts(run.notebook.cells[1])[-1] == "✓ Two: one and one."
    assert "✓ Two: one and one." in (tmp_path / "out" / "09_sums.html").read_text()
    index = (tmp_path / "out" / "index.html").read_text()
    assert "<a href='09_sums.html'>09 · Sums</a></td><td>What is one and one?</td>" in index


@pytest.mark.notebook
def test_the_last_picture_of_a_live_view_is_in_its_page(tmp_path):
    (tmp_path / "in").mkdir()
    source = """import base64, io, ipywidgets
from PIL import Image
class View(ipywidgets.VBox):
    def __repr__(self):
        return "a view & more"
picture = ipywidgets.Image(format="png")
display(View([ipywidgets.Label("text"), picture]), View([ipywidgets.Label("no picture")]))
buffer = io.BytesIO()
Image.new("RGB", (3, 2), (1, 2, 3)).save(buffer, "PNG")
picture.value = buffer.getvalue()
print(base64.b64encode(picture.value).decode())"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    (tmp_path / "in" / "view.ipynb").write_text(json.dumps(notebook))
    (run,) = make_pages.build(tmp_path / "in", tmp_path / "out")
    (printed,) = [output.text.strip() for output in run.notebook.cells[0].outputs if "text" in output]
    page = (tmp_path / "out" / "view.html").read_text()
    assert f'<img alt="a view &amp; more" src="data:image/png;base64,{printed}"/>' in page
    assert "a view &amp; more (this control works in JupyterLab only)" in page


def test_the_pages_take_no_place_but_their_own(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("thesis.tex", "thesis.html"):
        (kept / name).write_text("mine")
        with pytest.raises(FileExistsError, match="is not a folder of notebooks' pages only: choose a new folder"):
            make_pages.build(ROOT / "notebooks", kept)
        assert (kept / name).read_text() == "mine"
        (kept / name).unlink()
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "file").write_text("mine")
    for name in ("link", "file"):
        with pytest.raises(FileExistsError, match="is not a folder of notebooks' pages only"):
            make_pages.build(ROOT / "notebooks", tmp_path / name)
    with pytest.raises(FileNotFoundError, match="there are no notebooks in"):
        make_pages.build(kept, tmp_path / "out")
    tiny_notebook(kept, "index.ipynb", "# Index")
    with pytest.raises(ValueError, match=r"must not be called index.ipynb"):
        make_pages.build(kept, tmp_path / "out")


@pytest.mark.notebook
@pytest.mark.parametrize(
    ("source", "error"),
    [("$\\frac$", "00_fails.ipynb: cannot convert the formula"), ("\ud800", "surrogates not allowed")],
)
def test_what_cannot_be_a_page_leaves_the_pages_as_they_were(tmp_path, source, error):
    (tmp_path / "in").mkdir()
    tiny_notebook(tmp_path / "in", "00_fine.ipynb", "# Fine")
    make_pages.build(tmp_path / "in", tmp_path / "out")
    before = (tmp_path / "out" / "index.html").read_bytes()
    tiny_notebook(tmp_path / "in", "00_fails.ipynb", "# Fails", source)
    with pytest.raises(ValueError, match=error):
        make_pages.build(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "index.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.notebook
def test_a_failing_notebook_leaves_the_pages_as_they_were(tmp_path):
    (tmp_path / "in").mkdir()
    tiny_notebook(tmp_path / "in", "00_fine.ipynb", "# Fine")
    make_pages.build(tmp_path / "in", tmp_path / "out")
    before = (tmp_path / "out" / "index.html").read_bytes()
    cells = [nbformat.v4.new_code_cell("1 / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "in" / "00_fails.ipynb")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        make_pages.build(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "index.html").read_bytes() == before
