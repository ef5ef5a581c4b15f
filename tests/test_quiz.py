import numpy as np
import pytest
import torch

from vae_lab.lessons import question, questions, reversed_pad
from vae_lab.quiz import Question
from vae_lab.shapes import latent_frames, time_padding

MEASURED = {
    "which half": [{"2D only": 2.0, "full": 3.0}],
    "worst place in a chunk": [[18.0, 20.0, 19.0]],
    "jump of a static clip": [[0.1] * 6 + [0.9] + [0.1] * 3],
    "identity": [{"with": 17.0, "without": 8.0}],
    "drift": [17.0, 12.0],
    "expensive channel": [[0.1, 0.2, 0.4, 0.3]],
    "sigma": [[0.05, 0.1, 0.7]],
}
RIGHT = {  # worked out by hand
    "padding of kernel 3": 2,
    "padding of kernel 3, stride 2": 1,
    "window of output 2": [3, 4, 5],
    "outputs of 17 frames": 8,
    "kernel of 1, stride 2": [1, 3, 5, 7],
    "brightness of output 0": 1 / 3,
    "write time_padding": lambda kernel_size, stride, dilation: dilation * (kernel_size - 1) + 1 - stride,
    "order of F.pad": lambda x, t, h, w: torch.nn.functional.pad(x, (w, w, h, h, t, 0)),
    "latents of 17 frames": 5,
    "latents of 18 frames": 6,
    "latents of 51 frames": (15, 13),
    "frames of latent 5": range(17, 21),
    "what latent 1 sees": [4, 16],
    "lengths of 6 latents": {18, 19, 20, 21},
    "31 came back as": 29,
    "write latent_frames": lambda t, m: sum(-(-min(m or t, t - start) // 4) for start in range(0, t, m or t)),
    "write psnr": lambda x, y: 10 * torch.log10(4 / (x - y).square().mean()),
    "which half": "2D",
    "worst place in a chunk": 0,
    "jump of a static clip": 7,
    "weight of kl": 5,
    "identity": "with",
    "drift": "worse",
    "expensive channel": 2,
    "sigma": "up",
}


def check_of(name):
    return question(name, *MEASURED.get(name, []))


def test_every_question_accepts_the_right_answer():
    assert set(RIGHT) == set(questions())
    for name, answer in RIGHT.items():
        verdict = check_of(name)(answer)
        assert verdict.right is True, (name, verdict)
        assert repr(verdict).startswith("✓ ") and len(verdict.message) > 20


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_open_and_strange_answers(name):
    assert repr(check_of(name)(...)).startswith("… Your turn: put your answer in place of the three dots")
    for strange in (None, "seven", object(), [], {1: 2}, float("nan"), True):
        verdict = check_of(name)(strange)
        assert verdict.right is False and verdict.message


def test_every_known_mistake_is_rejected_with_its_own_hint():
    seen = 0
    for name in questions():
        asked = check_of(name).__self__ if isinstance(getattr(check_of(name), "__self__", None), Question) else None
        for mistake, hint in asked.mistakes if asked else ():
            verdict = asked.check(mistake)
            assert verdict.right is False and hint in verdict.message, name
            seen += 1
    assert seen >= 25


def test_messages():
    assert check_of("padding of kernel 3, stride 2")(2).message == (
        "Not 2. That is d·(k − 1) without (1 − s): output 0 would end on frame 0, alone, and the last frame of 8 would "
        "be in no window."
    )
    assert check_of("latents of 17 frames")(7).message == "Not 7. How many frames are put in front until 4 divides?"
    assert check_of("latents of 17 frames")("5").message == "The answer is a number; '5' is a text."
    assert check_of("latents of 51 frames")(15).message == "The answer is a list; 15 is a number."
    assert check_of("write time_padding")(3).message == "The answer is a function; 3 is a number."


def test_functions_are_told_the_first_case_that_differs():
    check = check_of("write time_padding")
    assert check(lambda k, s, d: d * (k - 1)).message == (
        "kernel_size=2, stride=2, dilation=1: your function gives 1, the library 0. It is right for stride 1: what "
        "does a stride change?"
    )
    assert check(lambda k, s, d: (k - 1) + (1 - s)).message.endswith("how far does a dilated kernel reach?")
    assert check(lambda k, s, d: 1 / 0).message.endswith("your function raised ZeroDivisionError: division by zero")
    assert check(lambda k, s, d: ...).right is None
    assert check(time_padding).message == "It agrees with the library in all 56 cases."
    assert "Without chunks it is ceil(T / 4)." in check_of("write latent_frames")(lambda t, m: t // 4).message
    no_chunks = lambda t, m: latent_frames(t, micro_frame_size=None)  # noqa: E731
    assert "num_frames=17, micro_frame_size=4: your function gives 5, the library 5" not in repr(
        check_of("write latent_frames")(no_chunks)
    )
    assert check_of("write latent_frames")(no_chunks).right is False
    assert check_of("write psnr")(lambda x, y: 10 * torch.log10(1 / (x - y).square().mean())).right is False


def test_the_planted_bug_is_named_by_its_axes():
    check = check_of("order of F.pad")
    assert check(reversed_pad).message == (
        "With time=2, height=1, width=3 the wrong axes are time: 3 in front and 3 behind, it should be 2 and 0; "
        "width: 2 in front and 0 behind, it should be 3 and 3. F.pad reads the last axis first."
    )
    swapped = lambda x, t, h, w: torch.nn.functional.pad(x, (h, h, w, w, t, 0))  # noqa: E731
    assert "axes are height: 3 in front and 3 behind, it should be 1 and 1; width: 1" in check(swapped).message
    behind = lambda x, t, h, w: torch.nn.functional.pad(x, (w, w, h, h, 0, t))  # noqa: E731
    assert "axes are time: 0 in front and 2 behind, it should be 2 and 0." in check(behind).message
    assert "raised TypeError" in check(lambda x: x).message


def test_measured_answers_follow_the_measurement():
    assert question("which half", {"2D only": 1.0, "full": 4.0})("temporal").right is True
    assert question("worst place in a chunk", [20.0, 18.0, 19.0])(1).right is True
    assert question("jump of a static clip", [0.9, 0.2, 0.1])(1).right is True


def test_unknown_question():
    with pytest.raises(ValueError, match="there is no question 'nothing'; there are: padding of kernel 3, "):
        question("nothing")


class Nasty:
    def __eq__(self, other):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("no")


def test_no_answer_breaks_a_check():
    meta = torch.zeros((), device="meta")
    for answer in (Nasty(), {1, "a"}, range(10**12), 10**5000, meta, [[1], [2, [3]]], np.zeros((2, 2))):
        for name in questions():
            assert check_of(name)(answer).right is False


def test_what_counts_as_the_same():
    check = check_of("latents of 17 frames")
    for five in (5, 5.0, np.int64(5), np.float32(5), torch.tensor(5), np.array(5)):
        assert check(five).right is True
    assert check(5.004).right is False  # whole numbers are exact
    assert check_of("brightness of output 0")(0.333).right is True
    assert check_of("brightness of output 0")(0.34).right is False
    assert check_of("frames of latent 5")(torch.arange(17, 21)).right is True
    assert (
        check_of("latents of 51 frames")({15, 13}).message == "Here the order counts, and a set has none: write a list."
    )
    assert check_of("latents of 51 frames")([13, 15]).message.endswith("The two are the other way round.")


def test_functions_that_change_their_input():
    check = check_of("write psnr")
    right = RIGHT["write psnr"]
    assert check(lambda x, y: right(x.clone(), y) + 0 * x.zero_().sum()).right is True
    assert check(lambda x, y: x.copy_(y + 0.2).sum() * 0 + 20).right is False
    assert check_of("order of F.pad")(
        lambda x, t, h, w: torch.nn.functional.pad(x, (w, w, h, h, t, 0), mode="replicate")
    ).message == ("The result must be the clip itself with zeros around it.")


def test_a_clip_that_never_jumps():
    assert "by 0.900, between usual frames by 0.000" in question("jump of a static clip", [0.0, 0.9, 0.0])(2).message
