"""Hashes of what a result was computed from: code, files and settings."""

import ast
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1]  # the folder of the package
PACKAGE = __name__.partition(".")[0]


@cache
def code_version(module: str, libraries: Sequence[str] = ()) -> str:
    """Hash a module ("folder.module"), all modules of the package that it needs, and versions of libraries: 12 digits.

    Comments, docstrings and layout do not count, nor do modules that only draw (`figures`, and names that end in it).
    Imports are followed wherever they stand in a module; names of a package interface are looked up in its stub.
    Raises ValueError if there is no such module, or a module imports the package by its absolute name.
    """
    digest = hashlib.sha256()
    for name, tree in sorted(_with_imports(module).items()):
        digest.update(f"{name}\n{ast.dump(_WithoutTexts().visit(tree))}\n".encode())
    for library in libraries:
        digest.update(f"{library} {version(library)}\n".encode())
    return digest.hexdigest()[:12]


def content_hash(path: Path) -> str:
    """Hash a file's bytes, or the names and bytes of all files in a folder and its subfolders: 16 hex digits."""
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]:
        digest.update(f"{file.relative_to(path).as_posix()}\n".encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def key_of(*parts: Any) -> str:
    """Hash plain values that JSON can hold: 16 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _with_imports(module: str) -> dict[str, ast.Module]:
    """Return the syntax trees of a module ("folder.module") and of all modules that it needs, by their dotted names."""
    if _path_of(module) is None:
        raise ValueError(f"module must be one of {FOLDER.name}, by its dotted name in it, got {module!r}")
    trees: dict[str, ast.Module] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _path_of(name)
        if name in trees or path is None or any(part.endswith("figures") for part in name.split(".")):
            continue
        trees[name] = ast.parse(path.read_text("utf-8"))
        above = name.rpartition(".")[0]
        waiting.append(above)  # the package around a module runs too
        for base, imported, _ in _imports(trees[name], name if path.name == "__init__.py" else above):
            waiting += _modules_behind(base, imported)
    return trees


def _path_of(name: str) -> Path | None:
    """Return the file of a module, by its dotted name within the package; None if it is no module."""
    path = FOLDER.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if name and file.is_file()), None)


def _imports(tree: ast.Module, package: str) -> list[tuple[str, str, str]]:
    """Return (base, name, alias) of every `from base import name as alias` in a module of `package`; base is dotted."""
    above = package.split(".") if package else []
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(above[: len(above) - node.level + 1] + ([node.module] if node.module else []))
            imports += [(base, name.name, name.asname or name.name) for name in node.names]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            if any(name and name.partition(".")[0] == PACKAGE for name in names):
                raise ValueError(f"code that counts must import {PACKAGE} by relative names, got {ast.unparse(node)!r}")
    return imports


def _modules_behind(base: str, name: str) -> list[str]:
    """Return the modules that an import needs: its base, and the module that it names or the home of the name.

    The stub of a package interface, whose code loads names lazily, has their homes. One that is imported whole needs
    them all.
    """
    whole = f"{base}.{name}".strip(".")
    front = whole if _path_of(whole) else base
    stub = FOLDER.joinpath(*front.split("."), "__init__.pyi")
    homes = _imports(ast.parse(stub.read_text("utf-8")), front) if stub.is_file() else []
    needed = [home[:2] for home in homes if front == whole or home[2] == name]
    return [base, whole, *(module for home in needed for module in _modules_behind(*home))]


class _WithoutTexts(ast.NodeTransformer):
    """Removes every text that is a statement, such as a docstring."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node
