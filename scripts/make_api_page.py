"""Write docs/api.md from package interfaces (`*.pyi`) and docstrings: `python scripts/make_api_page.py`.

Nothing is imported: names, signatures and docstrings are read from the source.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vae_lab"
PAGE = ROOT / "docs" / "api.md"
# In the order in which docs/design.md reads them
CORE = ("shapes", "causal_conv", "gaussian", "spatial_vae", "temporal_vae", "video_vae", "streaming")
CORE += ("magvit_v2", "metrics")
SUBPACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.pyi"))
HEAD = """# API

*Which public names are there, and where?*

`.venv/bin/python scripts/make_api_page.py` writes this page from the docstrings. `help(name)` shows the whole
docstring, and the links lead to the source.
"""


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def module_path(folder: Path, dotted: str) -> Path:
    """The file of a module that the package interface of `folder` imports from."""
    path = folder.joinpath(*dotted.split(".")) if dotted else folder
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"


def interface_names(folder: Path) -> list[tuple[str, Path]]:
    """(public name, file of the module that owns it), in the order of the package interface."""
    found = []
    for node in parse(folder / "__init__.pyi").body:
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            path = module_path(folder, node.module or alias.name)
            if path.name == "__init__.py" and path.with_suffix(".pyi").is_file() and node.module:
                path = dict(interface_names(path.parent))[alias.name]  # a name that is passed on
            found.append((alias.asname or alias.name, path))
    return found


def public_names(path: Path) -> list[str]:
    """Classes, functions and constants that a module defines itself."""
    names = []
    for node in parse(path).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def first_sentence(doc: str | None) -> str:
    """The first paragraph's first sentence, on one line, as a cell of a Markdown table."""
    paragraph = " ".join((doc or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=[^.\d][.!?])\s+(?=[A-Z`(])", paragraph)[0]
    return sentence.replace("|", "\\|").replace("<", "&lt;")


def argument_names(arguments: ast.arguments) -> str:
    """As in a call: without types and defaults."""
    arguments.defaults, arguments.kw_defaults = [], [None] * len(arguments.kwonlyargs)
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return ast.unparse(arguments)


def described(path: Path, name: str) -> tuple[str, str]:
    """(what to write for the name, its first sentence)."""
    lines = path.read_text("utf-8").splitlines()
    if path.stem == name or path.parent.name == name and path.name == "__init__.py":
        return name, first_sentence(ast.get_docstring(parse(path)))
    for node in parse(path).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return f"{name}({argument_names(node.args)})", first_sentence(ast.get_docstring(node))
        if isinstance(node, ast.ClassDef) and node.name == name:
            return name, first_sentence(ast.get_docstring(node))
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            comment = re.search(r"#\s+(.*)", lines[node.lineno - 1])
            value = ast.unparse(node.value) if node.value else ""
            return name, comment[1] if comment else f"`{value}`" if len(value) <= 60 else "(a table)"
    raise LookupError(f"{path.relative_to(ROOT)} does not define {name}")


def table(names: list[tuple[str, Path]]) -> str:
    rows = ["| name | what it is |", "|---|---|"]
    for name, path in names:
        shown, text = described(path, name)
        rows.append(f"| [`{shown}`](../{path.relative_to(ROOT)}) | {text} |")
    return "\n".join(rows)


def page() -> str:
    """The whole page."""
    top = [(name, path) for name, path in interface_names(PACKAGE) if path.name != "__init__.py" and name not in CORE]
    parts = [HEAD, "## `vae_lab`\n\nThe names used most, importable from `vae_lab` itself.\n", table(top), ""]
    modules = [PACKAGE / f"{name}.py" for name in CORE]
    for path in modules:
        parts += [f"## `vae_lab.{path.stem}`\n", first_paragraph(path), ""]
        parts += [table([(name, path) for name in public_names(path)]), ""]
    for folder in SUBPACKAGES:
        names = [(name, path) for name, path in interface_names(PACKAGE / folder) if path.stem != name]
        parts += [f"## `vae_lab.{folder}`\n", first_paragraph(PACKAGE / folder / "__init__.py"), "", table(names), ""]
    return "\n".join(parts).rstrip() + "\n"


def first_paragraph(path: Path) -> str:
    return first_sentence(ast.get_docstring(parse(path)))


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
