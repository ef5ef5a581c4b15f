"""Hashes that say what a result was computed from: code, files and settings."""

import ast
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1]  # of the package


@cache
def code_version(module: str, libraries: Sequence[str] = ()) -> str:
    """12 hex digits: a hash of a module of the package, of all that it imports of the package, wherever in it, and of
    the installed versions of `libraries`.

    Comments, docstrings and layout do not count, nor do modules that draw results and compute none (`figures` and what
    ends in it). module: its dotted name within the package. libraries: names as pip knows them, in a tuple.
    """
    digest = hashlib.sha256()
    for name, tree in sorted(_with_imports(module).items()):
        digest.update(f"{name}\n{ast.dump(_without_docstrings(tree))}\n".encode())
    for library in libraries:
        digest.update(f"{library} {version(library)}\n".encode())
    return digest.hexdigest()[:12]


def content_hash(path: Path) -> str:
    """16 hex digits: of a file's bytes, or of the names and bytes of all files in a folder and the folders in it."""
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]:
        digest.update(f"{file.relative_to(path).as_posix()}\n".encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def key_of(*parts: Any) -> str:
    """16 hex digits: of plain values, as JSON holds them."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _with_imports(module: str) -> dict[str, ast.Module]:
    """The syntax trees of a module ("wing.module") and of all modules that it needs, by their dotted names."""
    if _path_of(module) is None:
        raise ValueError(f"module must be one of {FOLDER.name}, by its dotted name in it, got {module!r}")
    found, waiting = {}, [module]
    while waiting:
        name = waiting.pop()
        path = _path_of(name)
        if name in found or path is None or _draws(name):
            continue
        found[name] = ast.parse(path.read_text("utf-8"))
        waiting += _imported(found[name], name if path.name == "__init__.py" else name.rpartition(".")[0])
    return found


def _path_of(name: str) -> Path | None:
    """The file of a module by its dotted name within the package; None where there is none, as for a function."""
    path = FOLDER.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if name and file.is_file()), None)


def _draws(name: str) -> bool:
    """Whether a module draws results and computes none."""
    return any(part.endswith("figures") for part in name.split("."))


def _imported(tree: ast.Module, package: str) -> list[str]:
    """What relative imports in a module of `package` may name: modules, and names that may be modules."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package.split(".") if package else []
            base = [*above[: len(above) - node.level + 1], *(node.module.split(".") if node.module else [])]
            found += [".".join(base), *(".".join([*base, alias.name]) for alias in node.names)]
            found += [".".join(base[:length]) for length in range(1, len(base))]  # their packages run too
    return found


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """All texts that stand alone as a statement are taken out."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                setattr(node, name, [s for s in statements if not _is_text(s)])
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
