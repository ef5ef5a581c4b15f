"""Prompts of a few known words, "red disc left fast", and the tokens that stand for them."""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import TYPE_CHECKING, NamedTuple, Self

from ..utils.checks import check_one_of, integer_within

if TYPE_CHECKING:
    from torch import Tensor

COLOURS: Mapping[str, tuple[float, float, float]] = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.7, 0.2),
    "blue": (0.15, 0.25, 0.9),
    "yellow": (0.95, 0.85, 0.1),
}
"""Red, green and blue of each colour, from 0 to 1."""
SHAPES = ("disc", "bar")
DIRECTIONS: Mapping[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""The step along x (to the right) and y (down)."""
SPEEDS: Mapping[str, float] = {"slow": 1.0, "fast": 2.0}
"""Pixels per frame."""
SLOTS: Mapping[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS), "shape": SHAPES, "direction": tuple(DIRECTIONS), "speed": tuple(SPEEDS)
}  # fmt: skip
WORDS = tuple(word for words in SLOTS.values() for word in words)
"""All known words. The place of a word here is its number among the tokens' channels."""


class Prompt(NamedTuple):
    """What a clip shows: one object of a colour and shape that moves in a direction."""

    colour: str
    shape: str
    direction: str
    speed: str = "fast"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read words in any order; the speed may be left out.

        Raises ValueError for words that are not known, two words of a kind, and kinds without a word.

        >>> str(Prompt.parse("left red disc"))
        'red disc left fast'
        """
        if not isinstance(text, str):
            raise ValueError(f"prompt must be a string, got {text!r}")
        found: dict[str, str] = {}
        for word in text.lower().split():
            slot = next((slot for slot, words in SLOTS.items() if word in words), None)
            if slot is None:
                raise ValueError(f"prompt {text!r} has the unknown word {word!r}; {known_words()}")
            if slot in found:
                raise ValueError(f"prompt {text!r} must have one {slot}, it has {found[slot]!r} and {word!r}")
            found[slot] = word
        if missing := [slot for slot in cls._fields if slot not in found and slot not in cls._field_defaults]:
            raise ValueError(f"prompt {text!r} needs a word for its {' and '.join(missing)}; {known_words()}")
        return cls(**found)

    @classmethod
    def of(cls, value: "Prompt | str") -> "Prompt":
        """Return a prompt as it is, or read a text as `parse` does. Raises ValueError for unknown words in either."""
        if not isinstance(value, Prompt):
            return cls.parse(value)
        for (slot, words), word in zip(SLOTS.items(), value, strict=True):
            check_one_of(f"{slot} of {value!r}", word, words)
        return value

    def __str__(self) -> str:
        return " ".join(self)


def known_words() -> str:
    """List the words, by kind, for messages."""
    return "known are " + "; ".join(f"{slot}: {', '.join(words)}" for slot, words in SLOTS.items())


def all_prompts() -> list[Prompt]:
    """Return the 64 prompts there are."""
    return [Prompt(*words) for words in product(*SLOTS.values())]


def prompts_of(prompts: Iterable[Prompt | str]) -> list[Prompt]:
    """Read each of several prompts (`Prompt.of`). Raises ValueError for none, and for one that is in no list."""
    if isinstance(prompts, str | Prompt) or not isinstance(prompts, Iterable):
        raise ValueError(f"prompts must be a list of prompts, got {prompts!r}")
    found = [Prompt.of(prompt) for prompt in prompts]
    if not found:
        raise ValueError(f"prompts must have at least one prompt, got {prompts!r}")
    return found


def embed(prompts: Iterable[Prompt | str], channels: int = len(WORDS)) -> "Tensor":
    """Return the tokens of prompts, (B, 4, channels): each word is a unit vector times sqrt(channels).

    This table takes the place of a text encoder such as Open-Sora's T5. Channels beyond the words are 0.
    """
    import torch

    integer_within("channels", channels, len(WORDS))
    numbers = torch.tensor([[WORDS.index(word) for word in prompt] for prompt in prompts_of(prompts)])
    return torch.nn.functional.one_hot(numbers, channels).float() * channels**0.5
