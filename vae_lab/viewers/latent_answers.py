"""Answers of the latent viewer: a change of the latents is asked for, both are decoded, and pictures come back."""

import base64
import warnings
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import families
from ..latents.edits import amplify_channel, change_cell, interpolate, shift_channel, swap_channel, zero_channel
from ..latents.effects import Effect, effect, paint
from ..latents.moments import channel_moments
from ..utils.checks import finite, index_of
from ..utils.text import count
from ..video.frames import to_frames
from .pictures import Panel, View, fit_pictures, thinning_note, view_data, webp

QUESTIONS = {
    "zero": ("channel",),
    "amplify": ("channel", "factor"),
    "shift": ("channel", "latent_frames"),
    "swap": ("channel",),
    "interpolate": ("weight",),
    "cell": ("cell", "amount", "channel"),
}


class LatentAnswers:
    """Decodes changed latents and keeps the answers that fit.

    Args:
        vae: any video VAE that `adapters.decode` takes.
        z, other: (1, C, L, h, w); other may be None.
        room: bytes of all kept pictures; what is decoded may take a third, otherwise frames are left out or shrunk.
        changes: where they are kept, `data["changes"]` of the viewer. It is changed in place, so that what is saved
          holds the answers while only the new one is sent to the browser.
    """

    def __init__(self, vae, z, other, num_frames: int, room: int, max_bytes: int, changes: dict[str, Any]):
        self._vae, self._z, self._other, self._num_frames = vae, z, other, num_frames
        self._room, self._max_bytes, self._changes = room, max_bytes, changes
        self._stride, self._shrink, self._thinned = 1, 1, ""
        self._stds = channel_moments(z).std
        self._seen: list[tuple[Tensor, Tensor]] = []  # latents and their frames: z and the last others
        self._original: list[np.ndarray] = []
        self._dropped, self._told = 0, False  # told: that the browser has the decoded frames

    def check(self, questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The questions in plain numbers, after every change was made, and none decoded. Raises ValueError."""
        if isinstance(questions, Mapping | str) or not isinstance(questions, Iterable):
            raise ValueError(f"questions must be a list of dicts, got {questions!r}")
        checked = []
        for question in questions:
            if not isinstance(question, Mapping):
                raise ValueError(f"questions must be dicts, each with an operation and what it takes, got {question!r}")
            checked.append({key: plain(value) for key, value in question.items()})
            try:
                self._change(checked[-1])
            except ValueError as error:
                raise ValueError(f"{checked[-1]}: {error}") from None
        return checked

    def precompute(self, checked: Sequence[Mapping[str, Any]]) -> None:
        """Answer all these questions, or raise ValueError; warns of answers that have no room beside later ones."""
        for question in checked:
            message = self.answer(question)
            if "error" in message:
                raise ValueError(f"{question}: {message['error']}")
        kept = [answer["question"] for answer in self._changes["answers"]]
        dropped = [str(question) for question in checked if question not in kept]
        if dropped:
            warnings.warn(
                f"precompute left out {len(dropped)} of {len(checked)} answers, for which max_bytes "
                f"({self._max_bytes}) has no room: {', '.join(dropped)}",
                stacklevel=3,
            )

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The message to the browser: question, then answer, decoded (where it is new) and note; or error, a text."""
        try:
            question = {key: plain(value) for key, value in question.items()}
            return self._answer(question)
        except ValueError as error:
            return {"question": question, "error": str(error)}
        except (Exception, KeyboardInterrupt) as error:  # whatever a family fails with is said where it was asked
            return {"question": question, "error": f"{type(error).__name__}: {error}"}

    def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        changed, name = self._change(question)
        found = effect(self._decode, self._z, changed)
        if self._changes["decoded"] is None:
            self._keep_original(found.original)
        frames = self._reduced(to_frames(found.changed))
        pictures = [webp(frame) for frame in frames]
        # A small change is smaller as its difference modulo 256, from which the browser gets the same pixels
        differences = [webp(frame - before) for frame, before in zip(frames, self._original, strict=True)]
        as_differences = sum(map(len, differences)) < sum(map(len, pictures))
        answer = {
            "question": question,
            "name": name,
            "text": self._text(name, found, question),
            "rms": [float(f"{rms:.6g}") for rms in found.rms],
            "differences": as_differences,
            "images": [base64.b64encode(image).decode() for image in (differences if as_differences else pictures)],
        }
        self._keep(answer)
        decoded = None if self._told else self._changes["decoded"]
        self._told = True
        return {"question": question, "answer": answer, "decoded": decoded, "note": self._changes["note"]}

    def _change(self, question: Mapping[str, Any]) -> tuple[Tensor, str]:
        """(changed latents, name) of what is asked for."""
        operation = question.get("operation")
        if not isinstance(operation, str) or operation not in QUESTIONS:
            rules = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in QUESTIONS.items())
            raise ValueError(f"question must have an operation and what it takes ({rules}), got {dict(question)}")
        if (given := set(question) - {"operation"}) != {*QUESTIONS[operation]}:
            takes, others = ", ".join(QUESTIONS[operation]), ", ".join(sorted(map(str, given))) or "nothing"
            raise ValueError(f"{operation} takes {takes}, got {others}")
        if operation in ("swap", "interpolate") and self._other is None:
            raise ValueError(f"{operation} needs other, the latents of a second clip")
        z, other, values = self._z, self._other, [question[key] for key in QUESTIONS[operation]]
        match operation, values:  # the latents first: they are what refuses wrong values
            case "zero", [channel]:
                return zero_channel(z, channel), f"zero channel {channel}"
            case "amplify", [channel, factor]:
                return amplify_channel(z, channel, factor), f"channel {channel} × {factor:g}"
            case "shift", [channel, by]:
                changed = shift_channel(z, channel, by)
                return changed, f"channel {channel} shifted by {by:+d} latent frame{'s' * (abs(by) != 1)}"
            case "swap", [channel]:
                return swap_channel(z, other, channel), f"channel {channel} of the other clip"
            case "interpolate", [weight]:
                return interpolate(z, other, weight), f"interpolated, weight {weight:g}"
            case _, [cell, amount, channel]:
                where = "all channels" if channel is None else f"channel {channel}"
                changed = change_cell(z, cell, self._amount(amount, channel), channel)
                return changed, f"cell {tuple(cell)} of {where} {amount:+g} std"

    def _amount(self, amount: float, channel: int | None) -> float | np.ndarray:
        """In the units of z, of an amount in standard deviations of the channel."""
        stds = self._stds if channel is None else float(self._stds[index_of("channel", channel, len(self._stds))])
        return finite("amount", amount) * stds

    def _decode(self, z: Tensor) -> Tensor:
        for seen, y in self._seen:
            if torch.equal(seen, z):
                return y
        try:
            with torch.no_grad():
                y = families.decode(self._vae, z.to(self._vae.device, self._vae.dtype), self._num_frames)
        except TypeError as error:
            raise ValueError(
                f"{type(self._vae).__name__} does not decode latents alone ({error}): what its decode takes besides, "
                f"such as a timestep, is not given here"
            ) from error
        if y.shape[2] != self._num_frames:
            raise ValueError(f"{type(self._vae).__name__} decoded {y.shape[2]} frames, not {self._num_frames}")
        self._seen = [*self._seen[:1], (z, y)]
        return y

    def _text(self, name: str, found: Effect, question: Mapping[str, Any]) -> str:
        if not found.total:
            return f"{name}: no pixel changes."
        worst = int(found.rms.argmax())
        text = (
            f"{name}: RMS difference {found.total:.3g} over all frames (pixels from −1 to 1), PSNR {found.psnr:.2f} dB "
            f"between decoded and changed; most in frame {worst}, RMS {found.rms[worst]:.3g}."
        )
        if question["operation"] == "cell":
            amount = self._amount(question["amount"], question["channel"])
            painted = paint(self._decode, self._z, question["cell"], amount, question["channel"])
            text += (
                f" It changes {painted.touched}; by at least {painted.share:.0%} of the largest change {painted.main}."
            )
        return text

    def _reduced(self, frames: np.ndarray) -> list[np.ndarray]:
        kept = list(frames[:: self._stride])
        if self._shrink == 1:
            return kept
        return [np.asarray(Image.fromarray(frame).reduce(self._shrink)) for frame in kept]

    def _keep_original(self, original: Tensor) -> None:
        frames = to_frames(original)
        panels = [Panel("decoded", [View("decoded", "decoded", frames)])]
        *_, images, self._stride, self._shrink = fit_pictures(panels, len(frames), self._room // 3)
        self._original = self._reduced(frames)
        self._thinned = thinning_note(len(frames), self._stride, self._shrink, self._max_bytes)
        view = view_data("decoded", "decoded", images[0][0], frames.shape[1:3], self._shrink)
        self._changes["decoded"] = view | {"stride": self._stride}
        self._room -= sum(map(len, images[0][0]))

    def _keep(self, answer: dict[str, Any]) -> None:
        """Put the answer last; the first ones make room for it."""
        answers = self._changes["answers"]
        size = lambda answer: sum(map(len, answer["images"]))  # noqa: E731
        if size(answer) > self._room:
            raise ValueError(
                f"max_bytes ({self._max_bytes}) must be larger: it leaves {self._room} bytes for answers, and this one "
                f"has {size(answer)}"
            )
        answers[:] = [each for each in answers if each["question"] != answer["question"]] + [answer]
        while sum(map(size, answers)) > self._room:
            del answers[0]
            self._dropped += 1
        dropped = f"A saved page leaves out {count(self._dropped, 'earlier answer')}, so that all stays under "
        dropped = f"{dropped}{self._max_bytes / 1e6:.3g} MB (max_bytes)." if self._dropped else ""
        self._changes["note"] = " ".join(filter(None, [self._thinned, dropped]))


def plain(value):
    """numpy's numbers and arrays and tuples as what JSON knows; the same question is then asked in one way only."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)
