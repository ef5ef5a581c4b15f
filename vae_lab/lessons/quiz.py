"""Questions in a notebook: an answer is accepted, rejected with a hint, or still open."""

import reprlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from numbers import Number
from typing import Any, NamedTuple

import numpy as np

OPEN = "Your turn: put your answer in place of the three dots and run this cell again."


class Verdict(NamedTuple):
    """The result of a check. `right` is None if there is no answer yet."""

    right: bool | None
    message: str

    def __repr__(self) -> str:
        return {True: "✓ ", False: "✗ ", None: "… "}[self.right] + self.message


Check = Callable[[Any], Verdict]


class Question(NamedTuple):
    """A right answer, why it is right, a hint for wrong answers, and better hints for known mistakes."""

    answer: Any
    why: str
    hint: str
    mistakes: Sequence[tuple[Any, str]] = ()

    def check(self, answer: Any) -> Verdict:
        """Compare an answer: whole numbers exactly, other numbers to 0.005, lists member by member and in order.

        A range, a tuple or an array counts as a list. So does a set if the right answer is in rising order.
        """
        if answer is ...:
            return Verdict(None, OPEN)
        if isinstance(answer, set | frozenset) and isinstance(self.answer, list) and self.answer != sorted(self.answer):
            return Verdict(False, "The order counts here, and a set has none: write a list.")
        if same(answer, self.answer):
            return Verdict(True, self.why)
        for mistake, hint in self.mistakes:
            if same(answer, mistake):
                return Verdict(False, f"Not {_shown(answer)}. {hint}")
        if _kind(answer) != _kind(self.answer):
            return Verdict(False, f"The answer is {_kind(self.answer)}; {_shown(answer)} is {_kind(answer)}.")
        return Verdict(False, f"Not {_shown(answer)}. {self.hint}")


# A lesson's questions by name. A callable takes what the notebook measured and returns the check.
Questions = dict[str, Question | Callable[..., Check]]

_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = 20
_SHORT.maxstring = _SHORT.maxother = 60
LONGEST = 1000  # members of an answer that are compared


def _shown(value: Any) -> str:
    """A short text, even if the value's own __repr__ fails."""
    try:
        return _SHORT.repr(value)
    except Exception:
        return f"this {type(value).__name__}"


def _plain(value: Any) -> Any:
    """Convert ranges, tuples, sets and arrays to lists, and tensors of one number to that number."""
    if hasattr(value, "tolist"):  # numpy and torch
        value = value.tolist()
    if isinstance(value, set | frozenset):
        value = sorted(value, key=lambda member: (str(type(member)), member))
    if isinstance(value, range | tuple | list):
        return list(value[:LONGEST])
    return value


def same(answer: Any, right: Any) -> bool:
    """Whether an answer counts as the right one: see `Question.check`."""
    try:
        a, b = _plain(answer), _plain(right)
        if isinstance(a, list) and isinstance(b, list):
            return len(a) == len(b) and all(map(same, a, b))
        if _kind(a) == _kind(b) == "a number":
            return abs(a - b) < (5e-3 if isinstance(b, float) and not b.is_integer() else 1e-9)
        return type(a) is type(b) and a == b
    except Exception:  # an answer may be anything, even something that cannot be compared
        return False


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, Number) or getattr(value, "ndim", None) == 0:
        return "a number"
    if isinstance(value, range | tuple | list | set | frozenset) or getattr(value, "ndim", None):
        return "a list"
    return f"a {type(value).__name__}"


def choice(right: str, options: Sequence[str], why: str, hint: str) -> Check:
    """A check whose answer is one of a few words; hint: for the other words."""
    words = ", ".join(f'"{option}"' for option in options[:-1])
    wrong = [(option, hint) for option in options if option != right]
    return Question(right, why, f'Answer {words} or "{options[-1]}". {hint}', wrong).check


def extremes(values: Sequence[float]) -> tuple[int, int]:
    """Return the indices of the smallest and the largest value: the first ones if several are equal."""
    return int(np.argmin(values)), int(np.argmax(values))


class _Decided(Exception):
    """Ends a judge early: the reader's function raised an error or is still to be written."""

    def __init__(self, verdict: Verdict):
        self.verdict = verdict


def function_check(judge: Callable[[Callable], Verdict]) -> Check:
    """A check of a function that the reader writes.

    `judge` takes call(words, *args), which returns the function's result for `args`; `words` name the call in messages.
    If the function raises an error or returns the three dots, `call` ends the judge.
    """

    def check(function: Any) -> Verdict:
        def call(words: str, *args: Any) -> Any:
            try:
                result = function(*deepcopy(args))  # the reader's code may change its arguments
            except Exception as error:  # the reader's code may fail in any way
                message = f"{words}: your function raised {type(error).__name__}: {error}"
                raise _Decided(Verdict(False, message)) from None
            if result is ...:
                raise _Decided(Verdict(None, OPEN))
            return result

        if function is ...:
            return Verdict(None, OPEN)
        if not callable(function):
            return Verdict(False, f"The answer is a function; {_shown(function)} is {_kind(function)}.")
        try:
            return judge(call)
        except _Decided as decided:
            return decided.verdict

    return check


def agrees_with(expected: Callable, cases: Sequence[tuple], hint: Callable[..., str], words: str) -> Check:
    """A check that compares the reader's function with the library's and names the first case that differs.

    Args:
        expected: the library's function.
        cases: the arguments of each call.
        hint: takes the arguments of the case that differs, and returns the hint.
        words: format of a case in text, such as "kernel_size={}, stride={}".
    """

    def judge(call: Callable) -> Verdict:
        for case in cases:
            shown, right = words.format(*case), expected(*case)
            result = call(shown, *case)
            if not same(result, right):
                message = f"{shown}: your function gives {_shown(result)}, the library {right}. {hint(*case)}"
                return Verdict(False, message)
        return Verdict(True, f"It agrees with the library in all {len(cases)} cases.")

    return function_check(judge)
