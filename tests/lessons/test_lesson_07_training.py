from vae_lab.lessons import question


def test_measured_answers_follow_the_measurement():
    assert question("identity", {"with": 7.0, "without": 8.0})("without").message == "with: 7.0 dB, without: 8.0 dB."
    assert question("drift", 12.0, 17.0)("better").right is True
    assert question("sigma", [0.7, 0.1])("down").right is True
    check = question("expensive channel", [0.4, 0.1, 0.2])
    assert check(0).message == "Channel 0: an error of 0.4 in the pixels, 4.0 times the least."
    assert check(1).message == "Not 1. Count from 0."
