"""Find a model's weights among the names in a file: under a prefix, or in one of the file's entries.

A file's tensors have flat names. "/" separates the entries of a pickle, "." the parts of a name in a state dict: in
`{"ema": {"module.conv.bias": …}, "step": 7}` the bias is "ema/module.conv.bias". Whatever stands before the model's
names is one prefix, here "ema/module.".
"""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from ..utils.text import listed

Shapes = Mapping[str, tuple[int, ...]]
WRAPPER = re.compile(r"(?<![^./])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)\.")
"""Parts that torch.compile, FSDP, activation checkpointing and data parallelism put into names, wherever they wrap."""


class KeyDifferences(NamedTuple):
    """How the tensors in a file differ from those of the model's architecture, by the file's names."""

    missing: list[str]
    """In the model, not in the file."""
    unexpected: list[str]
    """In the file, not in the model."""
    mismatched: list[str]
    """In both with different shapes: "key: (in the file), the model has (in the model)"."""

    def __bool__(self) -> bool:
        return any(map(len, self))

    def describe(self, listed: int | None = 20) -> str:
        """Return a text that lists the keys, at most `listed` of each kind (None: all)."""
        lines = []
        for kind, keys in zip(("missing", "unexpected", "wrongly shaped"), self, strict=True):
            shown = keys[:listed]
            lines += [f"{len(keys)} {kind} keys:"] * bool(keys) + [f"  {key}" for key in shown]
            lines += [f"  … and {len(keys) - len(shown)} more"] * (len(keys) > len(shown))
        return "\n".join(lines)


class Fit(NamedTuple):
    """Which tensors of a file are a model's."""

    keys: dict[str, str]
    """The model's names, and unexpected ones under the same prefix -> names in the file."""
    differences: KeyDifferences
    notes: list[str]
    """Sentences: which prefix the names have, and what was left out."""


def fit_names(
    source: str,
    shapes: Shapes,
    others: Collection[str],
    expected: Shapes,
    *,
    entry: str | None = None,
    statistics: Collection[str] = (),
    rename: Callable[[dict[str, str]], object] = lambda names: None,
) -> Fit:
    """Find the tensors of a model in a file.

    Args:
        source: what messages call the file.
        shapes: of the file's tensors, by their flat names.
        others: names of what else the file holds.
        expected: the model's names and shapes.
        entry: the prefix to take, or one part of it, where several sets of weights fit.
        statistics: names that may be missing, because the config has them too; one number may stand for all channels.
        rename: changes old names, the dict's keys, to today's.

    Raises ValueError if several sets of weights fit and `entry` does not choose one of them.
    """
    plain, own = ({WRAPPER.sub("", name): name for name in names} for names in (shapes, expected))
    if len(plain) < len(shapes):  # with and without a wrapper: two sets of weights
        plain, own = ({name: name for name in names} for names in (shapes, expected))
    hits: Counter[str] = Counter()
    for name in plain:
        for start in (0, *(match.end() for match in re.finditer(r"[./]", name))):
            hits[name[:start]] += name[start:] in own
    sections = Counter(name[: name.rfind("/") + 1] for name in plain)
    prefixes = [p for p, number in hits.items() if 2 * number > len(expected)] or [
        max(sections, key=lambda section: sections[section], default="")
    ]
    fits: dict[str, Fit] = {}
    for prefix in prefixes:
        nested = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
        names = [name for name in plain if name.startswith(prefix) and not (nested and name.startswith(nested))]
        keys = {name.removeprefix(prefix): plain[name] for name in names if "/" not in name.removeprefix(prefix)}
        rename(keys)
        known = keys.keys() & own.keys()
        counters = [n for n in keys.keys() - known if "." not in n and math.prod(shapes[keys[n]]) == 1]
        keys = {own.get(name, name): key for name, key in keys.items() if name not in counters}
        wrong = sorted(
            name
            for name in keys.keys() & expected.keys()
            if shapes[keys[name]] != expected[name] and not (name in statistics and not shapes[keys[name]])
        )
        missing = sorted(expected.keys() - keys.keys())
        notes = _notes(source, prefix, keys, [*shapes, *others])
        if missing and set(missing) <= set(statistics):
            notes.append(f"{' and '.join(missing)} are not in {source}, so the config's are used")
            missing = []
        differences = KeyDifferences(
            missing=[prefix + name for name in missing],
            unexpected=sorted(keys[name] for name in keys.keys() - expected.keys()),
            mismatched=[f"{keys[name]}: {shapes[keys[name]]}, the model has {expected[name]}" for name in wrong],
        )
        fits[prefix] = Fit(keys, differences, notes)
    return fits[_choose(source, fits, hits, entry)]


def _choose(source: str, fits: Mapping[str, Fit], hits: Mapping[str, int], entry: str | None) -> str:
    """Return the prefix that `entry` names, else the one whose weights fit, else that with most of the names."""
    offered = {prefix: prefix.rstrip("./") for prefix in fits}
    if entry is None:
        whole = [prefix for prefix, fit in fits.items() if not fit.differences]
        if len(whole) > 1:
            options = " or ".join(f'entry="{offered[prefix]}"' for prefix in whole)
            raise ValueError(f"{source} holds {len(whole)} sets of weights that fit: choose one with {options}")
        return whole[0] if whole else max(fits, key=lambda prefix: hits[prefix])
    exact = [prefix for prefix, name in offered.items() if name == entry]
    chosen = exact or [prefix for prefix in fits if entry in re.split("[./]", prefix)]
    if len(chosen) != 1:
        options = " or ".join(f'"{name}"' for name in offered.values())
        raise ValueError(f"entry must be {options} for {source}, got {entry!r}")
    return chosen[0]


def _notes(source: str, prefix: str, keys: Mapping[str, str], everything: Collection[str]) -> list[str]:
    """Say which prefix the names have, and what of the file was left out."""
    used, left_out = set(keys.values()), dict[str, None]()  # a dict is a set that keeps the order
    stripped = {prefix.removeprefix("state_dict/")} - {""}
    for name, key in keys.items():
        stripped |= (Counter(WRAPPER.findall(key)) - Counter(WRAPPER.findall(name))).keys()
    for key in everything:
        if key not in used:
            common = os.path.commonprefix([key, prefix])
            start = max(common.rfind("."), common.rfind("/")) + 1
            left_out[key[:start] + re.split("[./]", key[start:])[0]] = None
    notes = [f"left out of the names in {source}: {', '.join(sorted(stripped))}"] if stripped else []
    return notes + ([f"not read from {source}: {listed(list(left_out))}"] if left_out else [])
