"""How answers are compared, and what a check says."""

import numpy as np
import torch
from torch import nn

from tests.helpers.lessons import check_of
from vae_lab.lessons.quiz import Question, choice, extremes, is_close, same, shape_of


def test_answers_of_the_wrong_kind():
    assert check_of("latents of 17 frames")("5").message == "The answer is a number; '5' is a string."
    assert check_of("latents of 51 frames")(15).message == "The answer is a list; 15 is a number."
    assert check_of("write time_padding")(3).message == "The answer is a function; 3 is a number."


def test_what_counts_as_the_same():
    check = check_of("latents of 17 frames")
    for five in (5, 5.0, np.int64(5), np.float32(5), torch.tensor(5), np.array(5)):
        assert check(five).right is True
    assert check(5.004).right is False  # whole numbers are exact
    assert check_of("brightness of output 0")(0.333).right is True
    assert check_of("brightness of output 0")(0.34).right is False
    assert check_of("frames of latent 5")(torch.arange(17, 21)).right is True
    assert (
        check_of("latents of 51 frames")({15, 13}).message == "The order counts here, and a set has none: write a list."
    )
    assert check_of("latents of 51 frames")([13, 15]).message.endswith("The two are the other way round.")


def test_true_and_false_of_numpy_and_torch_are_no_numbers():
    question = Question(True, "Yes.", "Look again.")
    for true, false in ((True, False), (np.bool_(True), np.bool_(False)), (torch.tensor(True), torch.tensor(False))):
        assert question.check(true).right is True
        assert question.check(false).message.endswith("Look again.")
    assert question.check(1).message == "The answer is True or False; 1 is a number."
    assert Question(1, "Yes.", "No.").check(np.bool_(True)).message.endswith("is True or False.")


def test_every_member_and_infinity_are_compared():
    assert same(float("inf"), np.inf) and not same(float("inf"), -np.inf) and not same(1.5, np.inf)
    assert not same(range(2000), list(range(1000))) and same(range(2000), np.arange(2000))
    assert not same([*range(1500), 1], range(1501))
    for odd in (np.ndarray, torch.empty(1, device="meta"), {1, "a", (2,)}, object(), nn.Linear, 10**400, "5"):
        assert Question(5, "Yes.", "No.").check(odd).right is False


def test_an_answer_in_words():
    check = choice("up", ("up", "down", "the same"), "It goes up.", "Look at the last column.").check
    assert repr(check("up")) == "✓ It goes up."
    assert check("down").message == "Not 'down'. Look at the last column."
    assert check("sideways").message == (
        'Not \'sideways\'. Answer "up", "down" or "the same". Look at the last column.'
    )
    assert check(1).message == "The answer is a string; 1 is a number."


def test_extremes_are_the_first_of_equal_values():
    assert extremes([2.0, 1.0, 3.0, 1.0, 3.0]) == (1, 2)
    assert extremes((5.0,)) == (0, 0)


def test_a_right_answer_is_never_taken_for_a_mistake():
    assert Question(0, "Yes.", "No.", [(0, "The opposite end.")]).check(0).message == "Yes."


def test_tensors_are_compared_whatever_the_answer_is():
    right = torch.tensor([[1.0, 2.0]])
    assert is_close(right + 5e-5, right) and is_close(right.double(), right) and not is_close(right + 2e-4, right)
    for wrong in (right[0], right.to("meta"), None, "text", [1.0, 2.0], right.new_tensor([[1.0, float("nan")]])):
        assert not is_close(wrong, right)
    assert (shape_of(right), shape_of(None), shape_of(right.to("meta"))) == ("(1, 2)", "NoneType", "(1, 2)")
