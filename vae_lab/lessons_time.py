"""What notebooks 04 and 06 ask: causality and long videos. Right answers come from `shapes` and what was measured."""

from collections.abc import Callable

from .quiz import Check, Question

QUESTIONS: dict[str, Question | Callable[..., Check]] = {}
