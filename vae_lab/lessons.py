"""What the notebooks ask: `question(name)` gives a `check(answer)` that accepts, rejects and hints.

The right answers come from the library (`shapes`, or what the notebook measured), and so do many of the wrong ones: a
hint tells a reader which formula leads to what they wrote.
"""

from typing import Any

from . import lessons_ablations, lessons_causality, lessons_latents, lessons_long, lessons_quality, lessons_sizes
from .lessons_sizes import reversed_pad
from .quiz import Check, Question

__all__ = ["question", "questions", "reversed_pad"]

_QUESTIONS = {
    **lessons_sizes.QUESTIONS,
    **lessons_quality.QUESTIONS,
    **lessons_causality.QUESTIONS,
    **lessons_latents.QUESTIONS,
    **lessons_long.QUESTIONS,
    **lessons_ablations.QUESTIONS,
}


def question(name: str, *measured: Any) -> Check:
    """The `check` of a question by its name; measured: what the notebook found out, where the answer depends on it."""
    if name not in _QUESTIONS:
        raise ValueError(f"there is no question {name!r}; there are: {', '.join(_QUESTIONS)}")
    entry = _QUESTIONS[name]
    return entry.check if isinstance(entry, Question) else entry(*measured)


def questions() -> list[str]:
    """The names of all questions."""
    return list(_QUESTIONS)
