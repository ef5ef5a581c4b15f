import copy

import numpy as np
import pytest
import torch
from scipy import stats

from vae_lab import TemporalVAE
from vae_lab.ablation.config import TrialConfig
from vae_lab.lessons import question, questions
from vae_lab.lessons.lesson_01_padding import reversed_pad
from vae_lab.lessons.lesson_04_causality import plant_leak
from vae_lab.lessons.quiz import Question
from vae_lab.shapes import latent_frames, time_padding
from vae_lab.training.config import Stage

MEASURED = {
    "which half": [{"2D only": 2.0, "full": 3.0}],
    "worst place in a chunk": [[18.0, 20.0, 19.0]],
    "jump of a static clip": [[0.1] * 6 + [0.9] + [0.1] * 3],
    "moved by the last frame": [[0, 1, 2, 3, 4]],
    "which module": ["GroupNorm"],
    "planted convolution": ["encoder.down_blocks.1.resnets.0.conv2"],
    "quality after the swap": [{"as trained": 24.0, "norms swapped": 23.0}],
    "moved in cogvideox": [[3, 4]],
    "channel that forgets fastest": [[0.9, 0.8, 0.7, 0.2]],
    "cheapest channel": [[0.3, 0.3, 0.4, 0.1]],
    "frames that a cell paints": [[0, 16]],
    "frames painted without the leak": [[5, 16]],
    "halfway between two clips": [[0.0, 0.04, 0.0], 0.6],
    "largest jump of a still": [[0.1] * 16 + [0.4] + [0.1] * 16 + [0.5] + [0.1], [0, 17, 34]],
    "identity": [{"with": 17.0, "without": 8.0}],
    "drift": [17.0, 12.0],
    "expensive channel": [[0.1, 0.2, 0.4, 0.3]],
    "sigma": [[0.05, 0.1, 0.7]],
    "false alarms": [18],
    "replicate near the start": [-0.2, -0.1],
    "compute of early halving": [-300.0, -300.0],
    "another factor in use": [0.1, 0.2],
    "images with the identity loss": [-0.1, 0.2],
    "PSNR with much KL": [-2.0, -1.0],
    "3D from the pixels": [0.1, 0.4],
    "own variant": [TrialConfig(part="temporal", stages=(Stage(name="latents", steps=1, learning_rate=1e-3),))],
}


def convolved(frames, weight):
    """(outputs, the past that is left): the windows one after another."""
    k = weight.shape[2]
    windows = [torch.einsum("bck,ock->bo", frames[:, :, t : t + k], weight) for t in range(frames.shape[2] - k + 1)]
    return torch.stack(windows, dim=2), frames[:, :, len(windows) :]


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
    "frames latent 2 may see": range(9),
    "moved by the last frame": [0, 1, 2, 3, 4],
    "moved by frame 5": {2, 3, 4},
    "which module": "GroupNorm",
    "planted convolution": "encoder.down_blocks.1.resnets.0.conv2",
    "quality after the swap": "worse",
    "receptive field of the encoder": 201,
    "moved in cogvideox": [3, 4],
    "write last_seen": lambda latent, num_frames, ratio: ratio * (latent + 1) - -num_frames % ratio - 1,
    "latents too many": 3,
    "channel that forgets fastest": 3,
    "std after the mistake": 9.0,
    "cheapest channel": 3,
    "frames that a cell paints": [0, 16],
    "frames painted without the leak": [5, 16],
    "halfway between two clips": "fade",
    "write kl": lambda mean, std: 0.5 * (mean**2 + std**2 - 1 - np.log(std**2)),
    "largest jump of a still": 34,
    "step of a fade": 0.2,
    "write step": lambda x, past, weight: convolved(torch.cat([past, x], dim=2), weight),
    "when latents come": [0, 1, 0, 0, 0, 1],
    "when latent 0 is final": [51, 3],
    "rows kept of a tile": 6,
    "weight of kl": 5,
    "identity": "with",
    "drift": "worse",
    "expensive channel": 2,
    "sigma": "up",
    "standard errors of 3 seeds": 4.303,
    "false alarms": 0.9,
    "write interval": lambda d: stats.ttest_1samp(d, 0).confidence_interval(0.95),
    "replicate near the start": "better",
    "leak of frame_group": 0,
    "compute of early halving": "less",
    "compression of 8x": 5 / 3,
    "latents in chunks of 5": 13,
    "another factor in use": "worse",
    "images with the identity loss": "cannot tell",
    "PSNR with much KL": "worse",
    "3D from the pixels": "better",
    "own variant": {"wider": {"model": {"base_channels": 24}}},
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


def test_a_step_is_tried_with_pieces_shorter_than_the_past():
    check, right = check_of("write step"), RIGHT["write step"]
    last = lambda x, past, weight: (right(x, past, weight)[0], x[:, :, -3:])  # noqa: E731
    assert check(last).message == (
        "k=4, pieces of 1: a past of shape (1, 2, 1), it must keep its k - 1 = 3 frames. A piece may be shorter than "
        "that: cut from past and x together."
    )
    assert "not what the whole clip gives" in check(lambda x, past, w: (right(x, past, w)[0], past)).message
    assert "outputs of shape (1, 3, 6) for 9 frames" in check(lambda x, past, w: right(x, past[:, :, :0], w)).message
    assert check(lambda x, past, w: right(x, past, w)[0]).message.startswith("Return two tensors")
    assert check(lambda x, past, w: x / 0 + "").message.startswith("k=4, pieces of 9: your function raised TypeError")
    assert check(lambda x, past, w: ...).right is None


def test_the_jump_of_a_still_tells_of_a_short_last_chunk():
    check = check_of("largest jump of a still")
    assert check(34).message.startswith("Frame 34 begins a chunk, the last one, of 2 frames: the picture changes by 0.")
    assert "There it changes by 0.400, but there is a larger jump." in check(17).message
    assert question("largest jump of a still", [0.9, 0.1], [0])(1).message.startswith("Frame 1: the picture")


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


def test_a_leak_is_planted_in_one_convolution():
    vae = TemporalVAE(base_channels=4, num_res_blocks=1, norm="frame_group", norm_num_groups=2)
    weights = vae.state_dict()
    paths = {plant_leak(copy.deepcopy(vae), seed) for seed in range(20)}
    assert len(paths) > 5 and all(path.startswith("encoder.") for path in paths)
    path = plant_leak(vae, seed=1)
    convolutions = [m for m in vae.modules() if isinstance(m, torch.nn.Conv3d) and m.padding == (1, 1, 1)]
    assert convolutions == [vae.get_submodule(path)]
    planted = {key.replace(f"{path}.", f"{path}.conv."): value for key, value in vae.state_dict().items()}
    assert planted.keys() == weights.keys() and all(torch.equal(planted[key], weights[key]) for key in weights)


def test_measured_answers_follow_the_measurement():
    assert question("which half", {"2D only": 1.0, "full": 4.0})("temporal").right is True
    assert question("worst place in a chunk", [20.0, 18.0, 19.0])(1).right is True
    assert question("jump of a static clip", [0.9, 0.2, 0.1])(1).right is True
    assert question("moved by the last frame", [4])([4]).message == "The latents [4]."
    assert question("halfway between two clips", [0.0, 0.3, 0.0], 0.6)("morph").right is True
    assert question("frames that a cell paints", [5, 8])([5, 8]).message == (
        "Just the frames that latent frame 2 stands for."
    )
    assert question("quality after the swap", {"as trained": 23.0, "norms swapped": 24.0})("better").right is True


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
