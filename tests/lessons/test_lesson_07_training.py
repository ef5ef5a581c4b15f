from tests.helpers.lessons import check_of
from vae_lab.lessons import question


def test_measured_answers_follow_the_measurement():
    assert question("identity", {"with": 7.0, "without": 8.0})("without").message == "with: 7.0 dB, without: 8.0 dB."
    assert question("drift", 0.02, 0.18)("larger").message == "0.0200 before, 0.1800 after."
    assert question("drift", 0.02, 0.18)("smaller").right is False
    assert question("sigma", [0.7, 0.1])("down").right is True
    check = question("least visible channel", [0.4, 0.1, 0.2])
    assert check(1).message == (
        "Channel 1: an error of 0.1 in the pixels. In channel 0 the same error of latents costs 4.0 times as much."
    )
    assert check(2).message == "Not 2. Count from 0."
    assert check(0).message == "Not 0. That is where it matters most."


def test_a_loss_is_checked_with_and_without_its_kl():
    def loss(x, y, mean, std, kl_weight, share=0.05, log=2.0):
        kl = 0.5 * (mean.square() + std.square() - 1 - log * std.log())
        return (y - x).square().mean() + share * (y - x).abs().mean() + kl_weight * kl.mean()

    check = check_of("write the loss")
    assert check(loss).right is True
    assert "The weight of the absolute error is 0.05" in check(lambda *case: loss(*case, share=0.0)).message
    assert "kl_weight=2.0" in (message := check(lambda *case: loss(*case, log=1.0)).message)
    assert message.endswith("The KL is the mean of (mean² + std² - 1 - ln std²) / 2 over the elements of mean.")
    assert check(lambda x, y, mean, std, kl_weight: loss(x, y, mean, std, kl_weight) * x.numel()).right is False
