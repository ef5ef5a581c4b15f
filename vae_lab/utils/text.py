"""Numbers and errors as words for messages."""

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where needed.

    >>> count(1, "frame"), count(2, "frame")
    ('1 frame', '2 frames')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def ordinal(number: int) -> str:
    """Return an ordinal in digits.

    >>> ordinal(1), ordinal(12), ordinal(23)
    ('1st', '12th', '23rd')
    """
    suffixes = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number // 10 % 10 == 1 else suffixes.get(number % 10, 'th')}"


def listed(numbers: Sequence[object], most: int = 8) -> str:
    """Join numbers or names by commas; of more than `most`, only the first ones.

    >>> listed((0, 17)), listed(range(10), most=3)
    ('0, 17', '0, 1, 2, …')
    """
    return ", ".join(map(str, numbers[:most])) + (", …" if len(numbers) > most else "")


def nearest(lengths: Sequence[int]) -> str:
    """Name the lengths that a model keeps next to one that it does not keep.

    >>> nearest([13, 17]), nearest([22])
    ('nearest lengths that it keeps: 13 and 17', 'nearest length that it keeps: 22')
    """
    return f"nearest length{'s' * (len(lengths) > 1)} that it keeps: {' and '.join(map(str, lengths))}"


def span(numbers: range, to: str = "-") -> str:
    """Return the first and the last number of a range that is not empty.

    >>> span(range(3, 7)), span(range(3, 4)), span(range(3, 7), " to ")
    ('3-6', '3', '3 to 6')
    """
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}{to}{numbers[-1]}"


def first_line(error: BaseException | str) -> str:
    """Return the first line of an error's message that is not blank; the name of its class if there is none.

    >>> first_line(ValueError("size must be 8\\nat least")), first_line(KeyError())
    ('size must be 8', 'KeyError')
    """
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
