"""Questions that a notebook asks: an answer is accepted, rejected with a hint, or still open."""

from collections.abc import Callable, Sequence
from numbers import Number
from typing import Any, NamedTuple

OPEN = "Your turn: put your answer in place of the three dots and run this cell again."


class Verdict(NamedTuple):
    """What `check` says. `right` is None where there was no answer yet."""

    right: bool | None
    message: str

    def __repr__(self) -> str:
        return {True: "✓ ", False: "✗ ", None: "… "}[self.right] + self.message


class Question(NamedTuple):
    """One answer, and what to say to it and to others."""

    answer: Any
    why: str
    hint: str
    mistakes: Sequence[tuple[Any, str]] = ()

    def check(self, answer: Any) -> Verdict:
        """Compare an answer: numbers to three digits, lists by their members in order."""
        if answer is ...:
            return Verdict(None, OPEN)
        if _same(answer, self.answer):
            return Verdict(True, self.why)
        for mistake, hint in self.mistakes:
            if _same(answer, mistake):
                return Verdict(False, f"Not {answer!r}. {hint}")
        if _kind(answer) != _kind(self.answer):
            return Verdict(False, f"The answer is {_kind(self.answer)}; {answer!r} is {_kind(answer)}.")
        return Verdict(False, f"Not {answer!r}. {self.hint}")


def _plain(value: Any) -> Any:
    """Ranges, tuples and sets of numbers as lists, tensors of one number as it: a reader may write any of them."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if getattr(value, "ndim", None) == 0:  # a number in a tensor or an array
        return value.item()
    return list(value) if isinstance(value, range | tuple | list) else value


def _same(a: Any, b: Any) -> bool:
    a, b = _plain(a), _plain(b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if _kind(a) == _kind(b) == "a number":
        return abs(a - b) < 5e-3
    return type(a) is type(b) and a == b


def _kind(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, list):
        return "a list"
    return {str: "a text"}.get(type(value), "a number" if isinstance(value, Number) else f"a {type(value).__name__}")


def function_check(judge: Callable[[Callable], Verdict]) -> Callable[[Any], Verdict]:
    """A check of a function that the reader writes: `judge` sees functions only."""

    def check(function: Any) -> Verdict:
        if function is ...:
            return Verdict(None, OPEN)
        if not callable(function):
            return Verdict(False, f"The answer is a function; {function!r} is {_kind(function)}.")
        return judge(function)

    return check


def agrees_with(expected: Callable, cases: Sequence[tuple], hint: Callable[..., str], words: str) -> Callable:
    """A judge that compares with the library, and names the first case that differs; words: a case in text."""

    def judge(function: Callable) -> Verdict:
        for case in cases:
            shown = words.format(*case)
            try:
                result = function(*case)
            except Exception as error:  # the reader's code may fail in any way
                return Verdict(False, f"{shown}: your function raised {type(error).__name__}: {error}")
            if result is ...:
                return Verdict(None, OPEN)
            right = expected(*case)
            if not _same(result, right):
                return Verdict(False, f"{shown}: your function gives {result!r}, the library {right}. {hint(*case)}")
        return Verdict(True, f"It agrees with the library in all {len(cases)} cases.")

    return judge
