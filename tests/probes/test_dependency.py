import numpy as np
import pytest
import torch

from tests.helpers.probes import clip, decoder, drifting, encoder, mix, small
from vae_lab.probes.dependency import frame_dependency, future_leak
from vae_lab.shapes import decoder_last_seen, encoder_last_seen, frame_groups

METHODS = ("perturbation", "gradient")


@pytest.mark.parametrize("method", METHODS)
def test_dependency_of_a_known_map(method):
    weights = np.array([[2.0, 0, 0], [0, 0, 1], [0, 0, -1e-6], [0.5, 0, 3]])
    found = frame_dependency(mix(weights), clip(4), method)
    assert np.array_equal(found.moved, weights != 0)
    strength = found.matrix / found.matrix[0, 0] * 2  # what one frame's noise, or one weight's gradient, amounts to
    np.testing.assert_allclose(strength[:, 0], weights[:, 0], rtol=1e-9)
    np.testing.assert_allclose(strength[:, 2] / strength[1, 2], np.abs(weights[:, 2]), rtol=1e-6)
    assert (found.seen(0), found.seen(1), found.seen(2)) == ((0, 3), None, (1, 3))


def test_perturbation_is_the_change_that_the_noise_makes():
    size = 0.25
    found = frame_dependency(mix(np.diag([1.0, 3.0])), clip(2), size=size)
    noise = torch.randn(1, 4, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    np.testing.assert_allclose(np.diag(found.matrix), size * noise.abs().max().item() * np.array([1, 3]), rtol=1e-12)
    other = frame_dependency(mix(np.eye(2)), clip(2), size=size, seed=1)
    assert other.matrix[0, 0] != found.matrix[0, 0]


def test_gradients_that_cancel_in_a_plain_sum_are_found():
    f = lambda x: torch.cat([x.roll(1, dims=2), -x.roll(1, dims=2)], dim=1)  # noqa: E731
    assert (
        frame_dependency(f, clip(3), "gradient").moved.tolist() == np.roll(np.eye(3), 1, axis=1).astype(bool).tolist()
    )


def test_a_map_that_does_not_look_at_its_input_depends_on_nothing():
    constant = torch.ones(1, 1, 2, 1, 1, dtype=torch.double, requires_grad=True)
    for method in METHODS:
        assert not frame_dependency(lambda x: constant * 2, clip(3), method).moved.any()


@pytest.mark.parametrize("norm", ["group", "frame_group"])
def test_both_methods_agree_on_the_zeros_of_the_models_and_the_zeros_are_those_of_the_groups(norm):
    vae, groups = small(norm=norm), frame_groups(17)
    x = clip(17)
    z = encoder(vae)(x).detach()
    for f, v, last_seen in (
        (encoder(vae), x, encoder_last_seen(groups)),
        (decoder(vae, 17), z, decoder_last_seen(groups)),
    ):
        moved, by_gradient = (frame_dependency(f, v, method).moved for method in METHODS)
        assert np.array_equal(moved, by_gradient)
        assert np.array_equal(moved, (np.arange(len(moved))[:, None] <= np.array(last_seen)) | (norm == "group"))
        for method in METHODS:
            leak = future_leak(f, v, last_seen, method)
            assert leak.leaks == (leak.largest > 0) == (norm == "group")
            assert leak.pairs == (leak.forbidden_pairs if leak.leaks else 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_leak_is_found_where_it_is(method):
    weights = np.triu(np.ones((4, 4)))
    weights[3, 1], weights[2, 0] = 1e-9, 1e-7
    leak = future_leak(mix(weights), clip(4), range(4), method)
    assert (leak.leaks, leak.frame, leak.output, leak.pairs, leak.forbidden_pairs) == (True, 2, 0, 2, 6)
    assert leak.largest / leak.largest_allowed == pytest.approx(1e-7, rel=0.9)
    assert leak.table()["may_see"].tolist() == [0, 1, 2, 3]
    assert leak.table()["sees"].tolist() == [2, 3, 2, 3]
    assert leak.table()["from_frame"].tolist() == [2, 3, -1, -1]
    assert (leak.table()["leak"] > 0).tolist() == [True, True, False, False]
    sound = future_leak(mix(np.triu(weights)), clip(4), range(4), method)
    assert (sound.leaks, sound.largest, sound.frame, sound.output, sound.pairs) == (False, 0, None, None, 0)


def test_what_is_allowed_is_measured_apart_from_what_leaks():
    leak = future_leak(mix([[1.0, 0.0], [3.0, 0.5]]), clip(2), [0, 1])
    assert leak.largest / leak.largest_allowed == pytest.approx(3)


def test_an_output_that_may_see_nothing():
    leak = future_leak(mix([[1.0, 0.0], [0.0, 1.0]]), clip(2), [-1, 1])
    assert (leak.leaks, leak.frame, leak.output, leak.forbidden_pairs) == (True, 0, 0, 2)
    assert future_leak(mix([[1.0, 1.0]]), clip(1), [0, 0]).forbidden_pairs == 0


def test_results_read_well():
    dependency = frame_dependency(mix(np.triu(np.ones((9, 9)))), clip(9))
    lines = repr(dependency).splitlines()
    assert lines[0] == "FrameDependency by perturbation: 9 input frames -> 9 output frames"
    assert len(lines) == 8 and lines[4] == "  ..."
    assert lines[3].startswith("  output 2 sees frames 0 to 2, largest change ")
    assert lines[-1].startswith("  output 8 sees frames 0 to 8")
    assert "output 1 sees no frame" in repr(frame_dependency(mix([[1.0, 0.0]]), clip(1)))
    assert repr(dependency.leak(range(9))).startswith(
        "FutureLeak: none (9 input frames -> 9 output frames, by perturbation)\n  36 forbidden pairs, all exactly 0;"
    )
    leak = repr(dependency.leak([0, *range(8)]))
    assert leak.startswith("FutureLeak: yes (9 input frames -> 9 output frames, by perturbation)\n  8 of 44 forbidden ")
    assert "of input frame 1 on output frame 1" in leak
    by_gradient = frame_dependency(mix(np.eye(2)), clip(2), "gradient")
    assert "largest gradient" in repr(by_gradient) and "largest gradient" in repr(by_gradient.leak([0, 1]))
    table = dependency.table()
    assert table.shape == (9, 9) and (table.index.name, table.columns.name) == ("input frame", "output frame")


def test_plots():
    dependency = frame_dependency(mix(np.triu(np.ones((3, 3)))), clip(3), "gradient")
    assert dependency.plot().axes[0].get_title() == "by gradient: 3 input frames -> 3 output frames"
    assert not dependency.plot().axes[0].lines
    assert dependency.leak([0, 0, 2]).plot().axes[0].lines[0].get_xdata().tolist() == [0.5, 0.5, 0.5, 0.5, 2.5, 2.5]
    with pytest.raises(ValueError, match="last_seen must have one entry for each of 3 output frames, got 2"):
        dependency.plot([0, 1])


def moody(x, *_):
    return x if x[:, :, 0].max() < 50 else x[:, :, 1:]


X = clip(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frame_dependency(3, X), r"f must be a function \(B, C, T, H, W\) -> .*, got int"),
        (lambda: frame_dependency(lambda x: x[0], X), r"f\(x\) must be a tensor of shape .* got shape \(4, 3, 3, 3\)"),
        (lambda: frame_dependency(lambda x: (x,), X), r"f\(x\) must be a tensor of shape .* got tuple"),
        (lambda: frame_dependency(lambda x: x / 0, X), r"f\(x\) must be finite"),
        (lambda: frame_dependency(mix(np.eye(3)), X[0]), r"x must be a tensor of shape .* got shape \(4, 3, 3, 3\)"),
        (lambda: frame_dependency(mix(np.eye(3)), X, "jacobian"), "method must be one of .*, got 'jacobian'"),
        (lambda: frame_dependency(mix(np.eye(3)), X, size=0.0), "size must be above 0 and finite, got 0.0"),
        (
            lambda: frame_dependency(mix(np.eye(3)), X, size=1e-30),
            r"size \(1e-30\) is too small to change x, .*float64",
        ),
        (lambda: frame_dependency(drifting, X), "f must give the same output twice .* a difference of 1.0e.00: use"),
        (lambda: frame_dependency(drifting, X, "gradient"), "f must give the same output twice for the same x"),
        (lambda: frame_dependency(moody, X, size=1e3), r"one shape for all x .* got \(1, 4, 2, 3, 3\) and \(1, 4, 3, "),
        (lambda: frame_dependency(lambda x: x.detach() + 0, X, "gradient"), "f must let gradients through"),
        (lambda: future_leak(mix(np.eye(3)), X, [0, 1]), "last_seen must have one entry for each of 3 .*, got 2"),
        (lambda: future_leak(mix(np.eye(3)), X, [0, 1, 3]), "last_seen must be input frames from 0 to 2, or -1, got 3"),
        (lambda: future_leak(mix(np.eye(3)), X, [0, 1, 1.5]), "last_seen must be .*, got 1.5"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_map_whose_shape_changes_from_call_to_call_is_refused():
    lengths = iter((1, 2))
    with pytest.raises(ValueError, match=r"shapes \(1, 4, 1, 3, 3\) and \(1, 4, 2, 3, 3\)"):
        frame_dependency(lambda x: x[:, :, : next(lengths)], X)


def test_gradients_are_found_under_no_grad_and_inputs_are_left_alone():
    x = clip(3).requires_grad_()
    with torch.no_grad():
        assert frame_dependency(mix(np.eye(3)), x, "gradient").moved.trace() == 3
    frame_dependency(mix(np.eye(3)), x)
    assert x.grad is None and torch.equal(x, clip(3))


def test_functions_that_work_in_place_change_nothing_of_the_callers():
    x = torch.randn(1, 2, 6, 3, 3)
    before = x.clone()
    assert not future_leak(lambda x: x.mul_(2), x, range(6)).leaks
    assert not future_leak(torch.nn.ReLU(inplace=True), x, range(6), method="gradient").leaks
    assert torch.equal(x, before)
