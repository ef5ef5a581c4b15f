"""Words that several modules print."""

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """The number with its noun in the right form, for all that prints sizes.

    >>> count(1, "frame"), count(2, "frame")
    ('1 frame', '2 frames')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def listed(numbers: Sequence[int], most: int = 8) -> str:
    """Numbers for a message, the first ones where they are many.

    >>> listed((0, 17)), listed(range(10), most=3)
    ('0, 17', '0, 1, 2, …')
    """
    return ", ".join(map(str, numbers[:most])) + (", …" if len(numbers) > most else "")


def ordinal(number: int) -> str:
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number // 10 % 10 != 1 else 0, "th")
