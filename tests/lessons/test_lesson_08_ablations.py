import numpy as np

from tests.helpers.lessons import check_of
from vae_lab.ablation.results import verdict
from vae_lab.lessons import question


def test_answers_follow_the_table():
    for name, metric in (("replicate near the start", "time_error"), ("3D from the pixels", "psnr")):
        for low, high in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1), (0.0, 0.0)):
            right = verdict(metric, low, high)
            assert question(name, low, high)(right).right is True
            others = {"better", "worse", "cannot tell", "the same"} - {right}
            assert [question(name, low, high)(other).right for other in others] == [False] * 3
    assert question("compute of early halving", -2.0, -1.0)("more").right is False
    assert question("symmetric convolutions", -0.1, 0.1)("cannot tell").right is True
    assert question("false alarms", 40)(2).right is True


def test_a_chunk_is_rounded_up_before_compressions_are_compared():
    check = check_of("compression of 8x")
    assert check(10 / 6).right is True
    assert check(2).message == (
        "Not 2. That would be right if 8 divided every chunk. A chunk has 17 frames, and 17 / 8 is rounded up."
    )
    assert check(1.8).message.startswith("Not 1.8. That is right in one piece.")


def test_own_variants_are_checked_as_an_ablation_would():
    check = check_of("own variant")
    assert check({"a": {"kl_weight": 1.0}, "b": {"model": {"act_fn": "relu"}}}).message == (
        "It can be run: a changes kl_weight; b changes model."
    )
    assert check({"a": {"kl_wait": 1.0}}).message.startswith("'a': TrialConfig has no field 'kl_wait'; close matches: ")
    for variants in ({"a": {}}, {"a": {"kl_weight": 1e-6}}, {"a": {"seed": 3}}):
        assert check(variants).message == "'a' must change a field of the base other than the seed."
    assert check({"a": 3}).right is False and check({}).message.startswith("The answer is a dict of dicts")


def test_intervals_are_checked_with_the_case_that_differs():
    def normal(differences):
        half = 1.96 * np.std(differences, ddof=1) / len(differences) ** 0.5
        return np.mean(differences) - half, np.mean(differences) + half

    message = check_of("write interval")(normal).message
    assert "t has 1 degree of freedom: 12.71. The standard error is std" in message
