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
        hint = next((hint for mistake, hint in self.mistakes if same(answer, mistake)), None)
        if hint is None and _kind(answer) != _kind(self.answer):
            return Verdict(False, f"The answer is {_kind(self.answer)}; {_shown(answer)} is {_kind(answer)}.")
        return Verdict(False, f"Not {_shown(answer)}. {hint or self.hint}")


class FunctionQuestion(NamedTuple):
    """A function that the reader writes.

    `judge` takes call(words, *args), which returns the function's result for `args`; `words` name the call in messages.
    If the function raises an error or returns the three dots, `call` ends the judge.
    """

    judge: Callable[[Callable], Verdict]

    def check(self, function: Any) -> Verdict:
        """Call the reader's function as `judge` does."""

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
            return self.judge(call)
        except _Decided as decided:
            return decided.args[0]


class _Decided(Exception):
    """Ends a judge early, with a verdict."""


# A lesson's questions by name. A callable takes what the notebook measured.
Questions = dict[str, Question | FunctionQuestion | Callable[..., Question | Check]]

_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = 20
_SHORT.maxstring = _SHORT.maxother = 60
KINDS = {bool: "True or False", str: "a string", Number: "a number", range | tuple | list | set | frozenset: "a list"}


def _kind(value: Any) -> str:
    plain = _plain(value)
    return next((words for kind, words in KINDS.items() if isinstance(plain, kind)), f"a {type(value).__name__}")


def _shown(value: Any) -> str:
    """A short text, even if the value's own __repr__ fails."""
    try:
        return _SHORT.repr(value)
    except Exception:
        return f"this {type(value).__name__}"


def _plain(value: Any) -> Any:
    """Convert what numpy and torch make to Python's own numbers and lists, and sets to sorted lists, if possible."""
    try:
        if isinstance(value, set | frozenset):
            return sorted(value, key=lambda member: (str(type(member)), member))
        return value.tolist() if hasattr(value, "tolist") else value
    except Exception:  # an answer may be anything: a class, a tensor without values, members without an order
        return value


def same(answer: Any, right: Any) -> bool:
    """Whether an answer counts as the right one: see `Question.check`."""
    try:
        a, b = _plain(answer), _plain(right)
        if _kind(a) == _kind(b) == "a list":
            return len(a) == len(b) and all(map(same, a, b))
        if _kind(a) == _kind(b) == "a number":
            return a == b or abs(a - b) < (5e-3 if isinstance(b, float) and not b.is_integer() else 1e-9)
        return type(a) is type(b) and a == b
    except Exception:  # an answer may be anything, even something that cannot be compared
        return False


def is_close(answer: Any, right: Any, atol: float = 1e-4) -> bool:
    """Whether an answer is a tensor of the right shape, and its values are right but for rounding."""
    try:
        return answer.shape == right.shape and bool(((answer - right).abs() <= atol).all())
    except Exception:  # an answer may be anything: of another type, on the meta device
        return False


def shape_of(answer: Any) -> str:
    """The shape of a tensor, or the type of anything else."""
    return str(tuple(answer.shape)) if hasattr(answer, "shape") else type(answer).__name__


def choice(right: str, options: Sequence[str], why: str, hint: str) -> Question:
    """A question whose answer is one of a few words; hint: for the other words."""
    words = ", ".join(f'"{option}"' for option in options[:-1])
    wrong = [(option, hint) for option in options if option != right]
    return Question(right, why, f'Answer {words} or "{options[-1]}". {hint}', wrong)


def extremes(values: Sequence[float]) -> tuple[int, int]:
    """Return the indices of the smallest and the largest value: the first ones if several are equal."""
    return int(np.argmin(values)), int(np.argmax(values))


def index_of_least(values: Sequence[float], why: str, hint: str, most: str, *mistakes: tuple[int, str]) -> Question:
    """Ask for the index of the least value. why: format of that index, its value, and the same of the largest one.

    hint: for wrong answers. most: a better one for the index of the largest value. mistakes: others, with their hints.
    """
    least, largest = extremes(values)
    why = why.format(least, values[least], largest, values[largest])
    return Question(least, why, hint, [(largest, most), *mistakes])


def agrees_with(expected: Callable, cases: Sequence[tuple], words: str, hint: Callable[..., str]) -> FunctionQuestion:
    """Ask for a function that does what the library's `expected` does with the arguments of each case.

    The verdict names the first case that differs. words: its format in text, such as "kernel_size={}, stride={}".
    hint: takes its arguments, and returns the hint.
    """

    def judge(call: Callable) -> Verdict:
        for case in cases:
            shown, right = words.format(*case), expected(*case)
            if not same(result := call(shown, *case), right):
                message = f"{shown}: your function gives {_shown(result)}, the library {right}. {hint(*case)}"
                return Verdict(False, message)
        return Verdict(True, f"It agrees with the library in all {len(cases)} cases.")

    return FunctionQuestion(judge)
