"""The questions of all notebooks: `question(name)` returns a `check(answer)` that accepts, rejects and gives hints.

`notebooks/03_reconstruction.ipynb` has its questions in `lesson_03_reconstruction.py`, and so on: the modules are found
by their names. Right answers come from the library (`shapes`) or from what the notebook measured, and so do many known
mistakes: their hints name the formula that leads to the wrong answer.
"""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from .quiz import Check, FunctionQuestion, Question, Questions


@cache
def _questions() -> Questions:
    questions: Questions = {}
    for name in sorted(module.name for module in iter_modules(import_module(__package__).__path__)):
        if name.startswith("lesson_"):
            added = import_module(f".{name}", __package__).QUESTIONS
            if repeated := questions.keys() & added.keys():
                raise ValueError(f"{name} asks {min(repeated)!r}, but an earlier lesson does too: names are unique")
            questions |= added
    return questions


def question(name: str, *measured: Any) -> Check:
    """Return the check of a question; ValueError if there is none of that name.

    measured: what the notebook measured, if the answer depends on it.
    """
    if not isinstance(name, str) or name not in questions():  # an array has no truth value
        raise ValueError(f"there is no question {name!r}; there are: {', '.join(questions())}")
    entry = _questions()[name]
    asked = entry if isinstance(entry, Question | FunctionQuestion) else entry(*measured)
    return asked.check if isinstance(asked, Question | FunctionQuestion) else asked


def questions() -> list[str]:
    """Return the names of all questions, in the order of the notebooks."""
    return list(_questions())
