"""Edits of latents (1, C, L, h, w), each one function under one declaration.

    @edit("amplify", Channel(), Number("factor", -2, 4, step=0.25, default=2), title="{channel} × {factor}")
    def amplify_channel(z, channel, factor): ...

The declaration checks the arguments, titles the result, and becomes a form in `viewers.explore_latents`. EDITS holds
all of them by name. A decorated function checks what it is given and returns new latents; the body below the
declaration gets checked arguments and a copy of z that it may change. Channels, latent frames, rows and columns are
numbered from 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec

import numpy as np
import torch
from torch import Tensor

from ..utils.checks import finite, index_of, integer_within, plain
from .arrays import check_editable, per_channel
from .statistics import channel_moments

Arguments = ParamSpec("Arguments")
AXES = ("latent frame", "row", "column")


@dataclass(frozen=True)
class Parameter:
    """One argument of an edit. `Channel`, `Cell`, `Number` and `LatentFrames` make them.

    control: shape of z -> what else the control needs, as JSON. "needs" is a text that says why it cannot be used here.
    """

    kind: str  # how latent_change.js draws its control: "channel", "cell" or "number"
    name: str  # of the argument, and of the key in a request
    check: Callable[[Any, Tensor], Any]  # (value, z) -> the value for the edit's function; raises ValueError
    words: Callable[[Any], str]  # a checked value -> its words in a title
    control: Callable[[Sequence[int]], dict[str, Any]]


def Channel(name: str = "channel", or_all: bool = False) -> Parameter:
    """A channel: the one chosen in the viewer. With or_all it may be None, which means all channels."""
    return Parameter(
        "channel",
        name,
        check=lambda value, z: None if or_all and value is None else index_of(name, value, z.shape[1]),
        words=lambda value: "all channels" if value is None else f"channel {value}",
        control=lambda shape: {"orAll": or_all},
    )


def Cell(name: str = "cell") -> Parameter:
    """A cell, (latent frame, row, column): the one chosen in the viewer."""

    def check(value: Any, z: Tensor) -> tuple[int, ...]:
        places = plain(value)
        if not isinstance(places, Sequence) or len(places) != 3:
            raise ValueError(f"{name} must be (latent frame, row, column), got {value!r}")
        return tuple(
            index_of(f"{axis} of {name}", *each) for axis, *each in zip(AXES, places, z.shape[2:], strict=True)
        )

    return Parameter("cell", name, check, words=str, control=lambda shape: {})


def Number(
    name: str,
    low: float,
    high: float,
    step: float = 1,
    default: float = 0,
    label: str = "",
    form: str = "{:g}",
    strict: bool = False,
) -> Parameter:
    """A finite number, chosen by a slider from low to high; Python may go beyond them unless `strict`.

    label: beside the slider; the name if it is empty. form: how a title writes the number, for `str.format`.
    """
    _check_template(f"form of {name}", "a number", form, 0.0)

    def check(value: Any, z: Tensor) -> float:
        if strict and not low <= finite(name, value) <= high:
            raise ValueError(f"{name} must be from {low:g} to {high:g}, got {value}")
        return finite(name, value)

    control = {"label": label or name, "min": low, "max": high, "step": step, "value": default}
    return Parameter("number", name, check, words=form.format, control=lambda shape: control)


def LatentFrames(name: str = "latent_frames") -> Parameter:
    """A whole number of latent frames to move by, from -(L - 1) to L - 1: later if it is above 0."""

    def control(shape: Sequence[int]) -> dict[str, Any]:
        last = shape[2] - 1
        slider = {"label": "latent frames", "min": -last, "max": last, "step": 1, "value": 1}
        return slider if last else slider | {"needs": "needs two latent frames"}

    return Parameter(
        "number",
        name,
        check=lambda value, z: integer_within(name, value, 1 - z.shape[2], z.shape[2] - 1),
        words=lambda value: f"{value:+d} latent frame{'' if abs(value) == 1 else 's'}",
        control=control,
    )


@dataclass(frozen=True)
class Edit:
    """A function of latents, as `edit` declares it."""

    name: str
    parameters: tuple[Parameter, ...]
    title: str  # of an answer, with parameters' words in braces: "{channel} × {factor}"
    label: str  # on the viewer's button that chooses this edit
    function: Callable[..., Tensor]
    takes_other: bool  # whether the function takes `other`, the latents of a second clip

    def check(self, values: Mapping[str, Any], z: Tensor) -> dict[str, Any]:
        """Return the values of all parameters, checked. Raises ValueError."""
        return {each.name: each.check(plain(values[each.name]), z) for each in self.parameters}

    def words(self, values: Mapping[str, Any]) -> str:
        """Return the title of an answer with these checked values."""
        return self.title.format(**{each.name: each.words(values[each.name]) for each in self.parameters})

    def apply(self, z: Tensor, values: Mapping[str, Any], other: Tensor | None = None) -> Tensor:
        """Return edited latents of z's type; refuse those that it cannot hold. The arguments must have been checked."""
        second = {}
        if self.takes_other and other is not None:
            second = {"other": check_representable("other", f"up to {other.abs().max():.3g}", other.detach().to(z))}
        edited = self.function(z.detach().clone(), **second, **values).to(z)
        if edited.shape != z.shape:
            raise ValueError(f"edit {self.name!r} must keep the shape {tuple(z.shape)}, got {tuple(edited.shape)}")
        cause = next((each.name for each in self.parameters if each.kind == "number"), self.name)
        return check_representable(cause, values.get(cause, "more"), edited)

    def form(self, shape: Sequence[int], has_other: bool) -> dict[str, Any]:
        """Return the viewer's form for z of a shape, as JSON: name, label, controls, and why it cannot be used here."""
        controls = [{"kind": each.kind, "name": each.name} | each.control(shape) for each in self.parameters]
        needs = [control.get("needs", "") for control in controls]
        if self.takes_other and not has_other:
            needs.append("needs other=, the latents of a second clip")
        return {"name": self.name, "label": self.label, "controls": controls, "needs": next(filter(None, needs), "")}


EDITS: dict[str, Edit] = {}  # every edit by its name; `edit` adds to it


def edit(
    name: str, *parameters: Parameter, title: str, label: str = ""
) -> Callable[[Callable[Arguments, Tensor]], Callable[Arguments, Tensor]]:
    """Declare a function of latents as an edit: add it to EDITS and check what it is called with.

    Args:
        name: the `operation` of a request, and the label if that is empty. The last declaration counts.
        parameters: the function's arguments after z, and after `other` if it takes the latents of a second clip.
    """
    words = {each.name: "" for each in parameters}
    _check_template(f"title of edit {name!r}", ", ".join(words) or "no parameters", title, **words)

    def declare(function: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
        arguments = signature(function)
        takes = list(arguments.parameters)
        takes_other = "other" in takes
        declared = ["z", *["other"] * takes_other, *(each.name for each in parameters)]
        if takes != declared:
            raise ValueError(
                f"edit {name!r} must take {', '.join(declared)}, but its function takes {', '.join(takes)}"
            )
        made = EDITS[name] = Edit(name, parameters, title, label or name, function, takes_other)

        @wraps(function)
        def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
            values = arguments.bind(*args, **kwargs).arguments
            tensors = {name: values.pop(name) for name in ("z", "other") if name in takes}
            check_editable(**tensors)
            return made.apply(**tensors, values=made.check(values, tensors["z"]))

        return checked

    return declare


def requested(request: Mapping[str, Any], z: Tensor, has_other: bool) -> tuple[Edit, dict[str, Any]]:
    """Return the edit that a request such as {"operation": "zero", "channel": 0} asks for and its checked values.

    Raises ValueError for an unknown edit, and for other values than those of its parameters.
    """
    name = request.get("operation")
    takes = {known: [parameter.name for parameter in each.parameters] for known, each in EDITS.items()}
    if not isinstance(name, str) or name not in EDITS:
        rules = "; ".join(f"{known}: {', '.join(keys)}" for known, keys in takes.items())
        raise ValueError(f"edit must have an operation and what it takes ({rules}), got {dict(request)}")
    asked, given = EDITS[name], set(request) - {"operation"}
    if given != set(takes[name]):
        got = ", ".join(sorted(map(str, given))) or "nothing"
        raise ValueError(f"{name} takes {', '.join(takes[name])}, got {got}")
    if asked.takes_other and not has_other:
        raise ValueError(f"{name} needs other, the latents of a second clip")
    return asked, asked.check(request, z)


def forms(shape: Sequence[int], has_other: bool) -> list[dict[str, Any]]:
    """Return the forms of all edits, for z of a shape."""
    return [each.form(shape, has_other) for each in EDITS.values()]


def check_representable(name: str, value: Any, z: Tensor) -> Tensor:
    """Return latents; if their type cannot hold them, refuse the argument that is the cause."""
    if not torch.isfinite(z).all():
        raise ValueError(f"{name} must keep z within {z.dtype}, at most {torch.finfo(z.dtype).max:.3g}, got {value}")
    return z


def _check_template(name: str, what: str, template: str, *values: Any, **words: str) -> None:
    """Refuse a text that `str.format` cannot fill with what is there, before a title needs it."""
    try:
        template.format(*values, **words)
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        raise ValueError(f"{name} must be a template for {what}, got {template!r} ({error!r})") from None


@edit("zero", Channel(), title="zero {channel}")
def zero_channel(z: Tensor, channel: int) -> Tensor:
    """Set a channel to 0: the mean of the prior that the KL term pulls to, not the mean of the channel."""
    z[:, channel] = 0
    return z


@edit("amplify", Channel(), Number("factor", -2, 4, step=0.25, default=2), title="{channel} × {factor}")
def amplify_channel(z: Tensor, channel: int, factor: float) -> Tensor:
    """Multiply a channel's differences from its mean over the clip: mean + factor * (z - mean)."""
    values = z[:, channel].to(torch.promote_types(z.dtype, torch.float32))  # a mean rounded to 16 bits would move
    weight = torch.tensor(factor, dtype=values.dtype, device=z.device)  # beyond the type: infinite, so it is refused
    z[:, channel] = torch.lerp(values.mean(), values, weight).to(z)
    return z


@edit("shift", Channel(), LatentFrames(), title="{channel} shifted by {latent_frames}", label="shift in time")
def shift_channel(z: Tensor, channel: int, latent_frames: int) -> Tensor:
    """Move a channel by -(L - 1) to L - 1 latent frames, later if above 0; the edge frame fills what becomes free."""
    last = z.shape[2] - 1
    source = (torch.arange(last + 1, device=z.device) - latent_frames).clamp(0, last)
    z[:, channel] = z[:, channel, source]
    return z


@edit("swap", Channel(), title="{channel} of the other clip", label="swap with the other clip")
def swap_channel(z: Tensor, other: Tensor, channel: int) -> Tensor:
    """Take a channel from `other`, latents of the same shape; swap_channel(other, z, channel) is the other half."""
    z[:, channel] = other[:, channel]
    return z


@edit(
    "interpolate",
    Number("weight", 0, 1, step=0.05, default=0.5, label="weight of the other", strict=True),
    title="interpolated, weight {weight}",
)
def interpolate(z: Tensor, other: Tensor, weight: float) -> Tensor:
    """Return (1 - weight) * z + weight * other; weight is from 0 to 1, and both ends are exact."""
    return torch.lerp(z, other, weight)


@edit(
    "cell",
    Cell(),
    Number("amount", -6, 6, step=0.5, default=3, label="amount, std of the channel", form="{:+g} std"),
    Channel(or_all=True),
    title="cell {cell} of {channel} {amount}",
    label="one cell",
)
def change_cell_by_std(z: Tensor, cell: Sequence[int], amount: float, channel: int | None) -> Tensor:
    """Add `amount` standard deviations of each channel over the clip to one cell, in one channel or in all (None)."""
    return _add_to_cell(z, cell, amount * channel_moments(z).std, channel)


def change_cell(
    z: Tensor, cell: Sequence[int], amount: float | Sequence[float] | Tensor, channel: int | None = None
) -> Tensor:
    """Add `amount` to one cell (latent frame, row, column), in one channel or in all (None), and return new latents.

    amount: in the units of z; a number, or if channel is None also one for each channel.
    """
    check_editable(z)
    cell = Cell().check(cell, z)
    channel = Channel(or_all=True).check(plain(channel), z)
    if channel is not None:
        amount = finite("amount", plain(amount))
    amounts = per_channel("amount", amount, z.shape[1])
    return check_representable("amount", amount, _add_to_cell(z.detach().clone(), cell, amounts, channel))


def _add_to_cell(z: Tensor, cell: Sequence[int], amounts: np.ndarray, channel: int | None) -> Tensor:
    chosen = slice(None) if channel is None else channel
    z[(0, chosen, *cell)] += torch.as_tensor(amounts[chosen]).to(z)
    return z
