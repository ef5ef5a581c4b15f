"""Decode requested edits and return pictures."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..families.codec import Codec
from ..latents.edits import Edit, forms, requested
from ..latents.effects import Effect, decoded_by, effect_of, footprint_of
from ..utils.checks import plain
from ..utils.text import count
from ..video.frames import to_frames
from .pictures import PictureBudget, Thinning, as_text, webp

EditRequest = Mapping[str, Any]  # an edit and a value for each of its parameters: {"operation": "zero", "channel": 0}


class LatentAnswers:
    """Decodes edited latents and keeps the answers that fit.

    Args:
        z, other: (1, C, L, h, w), checked; other may be None.
        budget: for all kept pictures; of it the decoded frames may take a third, or are left out or shrunk.
        changes: `data["changes"]` of the viewer, where answers are kept. It is changed in place, so that a saved page
          holds all of them while only the new one is sent to the browser.
    """

    def __init__(
        self, codec: Codec, z: Tensor, other: Tensor | None, num_frames: int, budget: PictureBudget, changes: dict
    ):
        self._codec, self._z, self._other, self._num_frames = codec, z, other, num_frames
        self._budget, self._changes = budget, changes
        self._thinning = Thinning(num_frames)
        self._seen: list[tuple[Tensor, Tensor]] = []  # latents and their frames: z, and the last edited ones
        self._original: list[np.ndarray] = []
        self._dropped, self._sent = 0, False  # sent: the browser has the decoded frames

    def check(self, requests: Sequence[EditRequest]) -> list[dict[str, Any]]:
        """Return the requests in plain numbers. Makes every edit and decodes none. Raises ValueError."""
        if isinstance(requests, Mapping | str) or not isinstance(requests, Iterable):
            raise ValueError(f"edits must be a list of dicts, got {requests!r}")
        checked = []
        for request in requests:
            if not isinstance(request, Mapping):
                raise ValueError(f"edits must be dicts, each with an operation and what it takes, got {request!r}")
            checked.append(_as_sent(request))
            try:
                self._edited(checked[-1])
            except ValueError as error:
                raise ValueError(f"{checked[-1]}: {error}") from None
        return checked

    def precompute(self, checked: Sequence[EditRequest]) -> None:
        """Answer all these requests, or raise ValueError. Warns if later answers left no room for earlier ones."""
        self._changes["edits"] = forms(self._z.shape, self._other is not None)  # some may be newer than the viewer
        for request in checked:
            message = self.answer(request)
            if "error" in message:
                raise ValueError(f"{request}: {message['error']}")
        kept = [answer["request"] for answer in self._changes["answers"]]
        dropped = [str(request) for request in checked if request not in kept]
        if dropped:
            warnings.warn(
                f"precompute left out {len(dropped)} of {len(checked)} answers, for which max_bytes "
                f"({self._budget.max_bytes}) has no room: {', '.join(dropped)}",
                stacklevel=3,
            )

    def answer(self, request: EditRequest) -> dict[str, Any]:
        """Return the message to the browser: request, answer, decoded frames (once) and note; or request and error."""
        try:
            request = _as_sent(request)
            return self._answer(request)
        except (Exception, KeyboardInterrupt) as error:  # models raise anything; the reader who asked sees it
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            return {"request": request, "error": f"{kind}{error}"}

    def _answer(self, request: EditRequest) -> dict[str, Any]:
        edit, values, edited = self._edited(request)
        before, after = (decoded_by(self._decode, z) for z in (self._z, edited))
        effect = effect_of(before, after)
        if self._changes["decoded"] is None:
            original = to_frames(effect.original)
            view, self._thinning = self._budget.clip("decoded", original, self._budget.share(1 / 3))
            self._original, self._changes["decoded"] = self._thinning.of(original), view
        frames = self._thinning.of(to_frames(effect.changed))
        pictures = [webp(frame) for frame in frames]
        # A small change is smaller as its difference modulo 256, from which the browser gets the same pixels
        differences = [webp(frame - base) for frame, base in zip(frames, self._original, strict=True)]
        as_differences = sum(map(len, differences)) < sum(map(len, pictures))
        answer = {
            "request": request,
            "name": edit.words(values),
            "text": self._text(edit, values, effect, before, after),
            "rms": [float(f"{rms:.6g}") for rms in effect.rms],
            "differences": as_differences,
            "images": list(map(as_text, differences if as_differences else pictures)),
        }
        self._keep(answer)
        decoded = None if self._sent else self._changes["decoded"]
        self._sent = True
        return {"request": request, "answer": answer, "decoded": decoded, "note": self._changes["note"]}

    def _text(self, edit: Edit, values: dict[str, Any], effect: Effect, before: Tensor, after: Tensor) -> str:
        if not effect.total:
            return f"{edit.words(values)}: no pixel changes."
        worst = int(effect.rms.argmax())
        text = (
            f"{edit.words(values)}: RMS difference {effect.total:.3g} over all frames (pixels from −1 to 1), PSNR "
            f"{effect.psnr:.2f} dB between decoded and changed; most in frame {worst}, RMS {effect.rms[worst]:.3g}."
        )
        for cell in (values[each.name] for each in edit.parameters if each.kind == "cell"):
            reach = footprint_of(before, after, cell)
            text += f" It changes {reach.touched}; by at least {reach.share:.0%} of the largest change {reach.main}."
        return text

    def _edited(self, request: EditRequest) -> tuple[Edit, dict[str, Any], Tensor]:
        edit, values = requested(request, self._z, self._other is not None)
        return edit, values, edit.apply(self._z, values, self._other)

    def _decode(self, z: Tensor) -> Tensor:
        for seen, y in self._seen:
            if torch.equal(seen, z):
                return y
        codec = self._codec
        try:
            y = codec.decode(z.to(codec.device, codec.dtype), self._num_frames)
        except TypeError as error:
            missing = "what its decode takes besides, such as a timestep, is not given here"
            raise ValueError(f"{codec.name} does not decode latents alone ({error}): {missing}") from error
        if y.shape[2] != self._num_frames:
            raise ValueError(f"{codec.name} decoded {y.shape[2]} frames, not {self._num_frames}")
        self._seen = [*self._seen[:1], (z, y)]
        return y

    def _keep(self, answer: dict[str, Any]) -> None:
        """Append the answer and evict the oldest ones that no longer fit."""
        answers, room, max_bytes = self._changes["answers"], self._budget.left, self._budget.max_bytes
        if (size := _size(answer)) > room:
            raise ValueError(
                f"max_bytes ({max_bytes}) must be larger: it leaves {room} bytes for answers, and this one has {size}"
            )
        answers[:] = [each for each in answers if each["request"] != answer["request"]] + [answer]
        while sum(map(_size, answers)) > room:
            del answers[0]
            self._dropped += 1
        notes = [self._budget.note(self._thinning)]
        if self._dropped:
            dropped = f"A saved page leaves out {count(self._dropped, 'earlier answer')}"
            notes.append(f"{dropped}, so that all stays under {max_bytes / 1e6:.3g} MB (max_bytes).")
        self._changes["note"] = " ".join(filter(None, notes))


def _as_sent(request: EditRequest) -> dict[str, Any]:
    """Return a request as the browser sends it: Python's numbers, and lists for tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain(request).items()}


def _size(answer: dict[str, Any]) -> int:
    return sum(map(len, answer["images"]))
