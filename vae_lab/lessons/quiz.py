"""Questions that a notebook asks: an answer is accepted, rejected with a hint, or still open."""

import reprlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from numbers import Number
from typing import Any, NamedTuple

OPEN = "Your turn: put your answer in place of the three dots and run this cell again."


class Verdict(NamedTuple):
    """What `check` says. `right` is None where there was no answer yet."""

    right: bool | None
    message: str

    def __repr__(self) -> str:
        return {True: "✓ ", False: "✗ ", None: "… "}[self.right] + self.message


Check = Callable[[Any], Verdict]


class Question(NamedTuple):
    """One answer, and what to say to it and to others."""

    answer: Any
    why: str
    hint: str
    mistakes: Sequence[tuple[Any, str]] = ()

    def check(self, answer: Any) -> Verdict:
        """Compare an answer: whole numbers exactly, others to 0.005, lists member by member in their order.

        A range, a tuple or an array counts as a list, and so does a set where the answer is in rising order.
        """
        if answer is ...:
            return Verdict(None, OPEN)
        if isinstance(answer, set | frozenset) and isinstance(self.answer, list) and self.answer != sorted(self.answer):
            return Verdict(False, "Here the order counts, and a set has none: write a list.")
        if _same(answer, self.answer):
            return Verdict(True, self.why)
        for mistake, hint in self.mistakes:
            if _same(answer, mistake):
                return Verdict(False, f"Not {_shown(answer)}. {hint}")
        if _kind(answer) != _kind(self.answer):
            return Verdict(False, f"The answer is {_kind(self.answer)}; {_shown(answer)} is {_kind(answer)}.")
        return Verdict(False, f"Not {_shown(answer)}. {self.hint}")


Questions = dict[str, Question | Callable[..., Check]]  # a callable makes its check of what the notebook measured


_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = 20
_SHORT.maxstring = _SHORT.maxother = 60
LONGEST = 1000  # members of an answer that is still looked at


def _shown(value: Any) -> str:
    """Short, and safe where the value's own __repr__ fails."""
    try:
        return _SHORT.repr(value)
    except Exception:
        return f"this {type(value).__name__}"


def _plain(value: Any) -> Any:
    """Ranges, tuples, sets and arrays as lists, tensors of one number as it: a reader may write any of them."""
    if hasattr(value, "tolist"):  # numpy and torch
        value = value.tolist()
    if isinstance(value, set | frozenset):
        value = sorted(value, key=lambda member: (str(type(member)), member))
    if isinstance(value, range | tuple | list):
        return list(value[:LONGEST])
    return value


def _same(answer: Any, right: Any) -> bool:
    try:
        a, b = _plain(answer), _plain(right)
        if isinstance(a, list) and isinstance(b, list):
            return len(a) == len(b) and all(map(_same, a, b))
        if _kind(a) == _kind(b) == "a number":
            return abs(a - b) < (5e-3 if isinstance(b, float) and not b.is_integer() else 1e-9)
        return type(a) is type(b) and a == b
    except Exception:  # an answer may be anything, also what cannot be compared
        return False


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, Number) or getattr(value, "ndim", None) == 0:
        return "a number"
    if isinstance(value, range | tuple | list | set | frozenset) or getattr(value, "ndim", None):
        return "a list"
    return f"a {type(value).__name__}"


def choice(right: str, options: Sequence[str], why: str, hint: str) -> Check:
    """A check whose answer is one of a few words; hint: what to say to the other ones."""
    words = " or ".join(filter(None, [", ".join(f'"{option}"' for option in options[:-1]), f'"{options[-1]}"']))
    wrong = [(option, hint) for option in options if option != right]
    return Question(right, why, f"Answer {words}. {hint}", wrong).check


def extreme_index(
    extreme: Callable[..., int],
    values: Sequence[float],
    why: str,
    hint: str,
    opposite: str = "",
    mistakes: Sequence[tuple[Any, str]] = (),
) -> Check:
    """A check whose answer is the index of the smallest or the largest of measured values.

    Args:
        extreme: min or max; the first index counts if several values are equal.
        why: text in which {i} and {value:...} are the answer and its value, {other} and {other_value:...} those at the
            opposite end.
        hint: for answers that are not known mistakes.
        opposite: hint for an answer at the opposite end; empty: it gets `hint`.
        mistakes: other known mistakes with their hints.
    """
    values = list(values)
    i, other = (values.index(end(values)) for end in ((min, max) if extreme is min else (max, min)))
    why = why.format(i=i, value=values[i], other=other, other_value=values[other])
    return Question(i, why, hint, [*([(other, opposite)] if opposite else []), *mistakes]).check


def function_check(judge: Callable[[Callable], Verdict]) -> Check:
    """A check of a function that the reader writes: `judge` sees functions only."""

    def check(function: Any) -> Verdict:
        if function is ...:
            return Verdict(None, OPEN)
        if not callable(function):
            return Verdict(False, f"The answer is a function; {_shown(function)} is {_kind(function)}.")
        return judge(function)

    return check


def agrees_with(expected: Callable, cases: Sequence[tuple], hint: Callable[..., str], words: str) -> Check:
    """A check of a function that compares it with the library's, and names the first case that differs.

    Args:
        expected: the library's function.
        cases: the arguments of each call.
        hint: of the arguments, what to say where the results differ.
        words: format of a case in text, such as "kernel_size={}, stride={}".
    """

    def judge(function: Callable) -> Verdict:
        for case in cases:
            shown, right = words.format(*case), expected(*case)
            try:
                result = function(*deepcopy(case))  # what it does to its input is its own affair
            except Exception as error:  # the reader's code may fail in any way
                return Verdict(False, f"{shown}: your function raised {type(error).__name__}: {error}")
            if result is ...:
                return Verdict(None, OPEN)
            if not _same(result, right):
                said = f"{shown}: your function gives {_shown(result)}, the library {right}. {hint(*case)}"
                return Verdict(False, said)
        return Verdict(True, f"It agrees with the library in all {len(cases)} cases.")

    return function_check(judge)
