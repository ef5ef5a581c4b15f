"""What notebook 04 asks: causality. Right answers come from `shapes` and from what the notebook measured."""

from collections.abc import Callable

from .quiz import Check, Question

QUESTIONS: dict[str, Question | Callable[..., Check]] = {}
