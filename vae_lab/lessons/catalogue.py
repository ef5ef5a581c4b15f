"""What the notebooks ask: `question(name)` gives a `check(answer)` that accepts, rejects and hints.

The questions of notebook 03 are in `lesson_03_reconstruction.py`, and so on: modules are found by that name. Right
answers come from the library (`shapes`, or what the notebook measured), and so do many of the wrong ones: a hint tells
a reader which formula leads to what they wrote.
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from .quiz import Check, Question


@cache
def _questions() -> dict[str, Any]:
    """All questions, in the order of the notebooks."""
    names = sorted(
        module.name for module in iter_modules([str(Path(__file__).parent)]) if module.name.startswith("lesson_")
    )
    found: dict[str, Any] = {}
    for name in names:
        own = import_module(f".{name}", __package__).QUESTIONS
        if twice := found.keys() & own.keys():
            raise ValueError(f"{name} asks {sorted(twice)[0]!r}, and so does a lesson before it: names are unique")
        found |= own
    return found


def question(name: str, *measured: Any) -> Check:
    """The `check` of a question by its name; measured: what the notebook found out, where the answer depends on it."""
    if name not in _questions():
        raise ValueError(f"there is no question {name!r}; there are: {', '.join(_questions())}")
    entry = _questions()[name]
    return entry.check if isinstance(entry, Question) else entry(*measured)


def questions() -> list[str]:
    """The names of all questions."""
    return list(_questions())
