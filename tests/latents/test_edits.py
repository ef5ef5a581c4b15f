import numpy as np
import pytest
import torch

from tests.helpers.latents import OTHER, Z
from vae_lab.latents.edits import (
    EDITS,
    Channel,
    Number,
    amplify_channel,
    change_cell,
    change_cell_by_std,
    edit,
    interpolate,
    requested,
    shift_channel,
    swap_channel,
    zero_channel,
)


def others_stay(changed, channel):
    rest = [c for c in range(3) if c != channel]
    return changed.shape == Z.shape and torch.equal(changed[:, rest], Z[:, rest])


def test_changes_of_a_channel():
    before = Z.clone()
    zeroed = zero_channel(Z, 1)
    assert others_stay(zeroed, 1) and not zeroed[:, 1].any()
    louder = amplify_channel(Z, 2, 3.0)
    mean = Z[:, 2].mean()
    assert others_stay(louder, 2) and torch.allclose(louder[:, 2], mean + 3 * (Z[:, 2] - mean), atol=1e-6)
    assert torch.equal(amplify_channel(Z, 2, 1), Z)
    assert torch.equal(amplify_channel(Z, 0, 0)[:, 0], Z[:, 0].mean().expand(1, 4, 2, 5))
    swapped = swap_channel(Z, OTHER, 0)
    assert others_stay(swapped, 0) and torch.equal(swapped[:, 0], OTHER[:, 0])
    assert torch.equal(Z, before)


@pytest.mark.parametrize(("shift", "source"), [(0, [0, 1, 2, 3]), (1, [0, 0, 1, 2]), (-2, [2, 3, 3, 3]), (3, [0] * 4)])
def test_shift_repeats_the_edge_frame(shift, source):
    shifted = shift_channel(Z, 1, shift)
    assert others_stay(shifted, 1) and torch.equal(shifted[:, 1], Z[:, 1, source])


def test_interpolation_of_latents():
    assert torch.equal(interpolate(Z, OTHER, 0), Z) and torch.equal(interpolate(Z, OTHER, 1.0), OTHER)
    assert torch.allclose(interpolate(Z, OTHER, 0.25), 0.75 * Z + 0.25 * OTHER)


def test_one_cell_changes():
    changed = change_cell(Z, (3, 1, 4), (1.0, 2.0, -3.0))
    difference = changed - Z
    assert torch.allclose(difference[0, :, 3, 1, 4], torch.tensor([1.0, 2.0, -3.0]))
    assert (difference != 0).sum() == 3
    difference = change_cell(Z, (0, 0, 0), 2, channel=1) - Z
    assert torch.isclose(difference[0, 1, 0, 0, 0], torch.tensor(2.0)) and (difference != 0).sum() == 1


def test_results_share_no_memory_and_keep_the_type():
    z = Z.to(torch.bfloat16)
    changes = [
        zero_channel(z, 0), amplify_channel(z, 0, 2), shift_channel(z, 0, 1), swap_channel(z, z + 1, 0),
        interpolate(z, z + 1, 0), change_cell(z, (0, 0, 0), 1),
    ]  # fmt: skip
    before = z.clone()
    for changed in changes:
        assert changed.dtype == torch.bfloat16
        changed.fill_(9)
        assert torch.equal(z, before)
    assert not interpolate(Z.clone().requires_grad_(), OTHER, 0.5).requires_grad
    grown = Z.clone().requires_grad_()
    for changed in (amplify_channel(grown, 0, 2), swap_channel(OTHER, grown, 0), interpolate(OTHER, grown, 0.5)):
        assert not changed.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_amplified_channel_keeps_its_mean_in_16_bits(dtype):
    """1.003 lies between two numbers of bfloat16, 1.000 and 1.008: a mean that is rounded to one of them moves."""
    z = (torch.randn(1, 1, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.1 + 1.003).to(dtype)
    moved = amplify_channel(z, 0, 50).double().mean() - z.double().mean()
    assert abs(moved) < 0.002


def test_bad_changes_are_refused():
    bad = Z.clone()
    bad[0, 0, 0, 0, 0] = float("nan")
    for call, message in (
        (lambda: zero_channel(Z, 3), "channel must be an integer from 0 to 2, got 3"),
        (lambda: zero_channel(Z, -1), "channel must be an integer from 0 to 2, got -1"),
        (lambda: zero_channel(Z, True), "channel must be an integer from 0 to 2, got True"),
        (lambda: zero_channel(Z[0], 0), r"z must be \(1, C, L, h, w\), the latents of one clip, got shape"),
        (lambda: zero_channel(bad, 0), "z must be finite, got 1 of 120"),
        (lambda: zero_channel(Z.numpy(), 0), r"z must be a tensor \(1, C, L, h, w\), got ndarray"),
        (lambda: amplify_channel(Z, 0, float("inf")), "factor must be a finite number, got inf"),
        (lambda: amplify_channel(Z, 0, 10**400), "factor must be a finite number, got 1000"),
        (
            lambda: amplify_channel(Z.to(torch.float8_e4m3fn), 0, 2),
            "z must be of at least 16 bits, .* got torch.float8",
        ),
        (lambda: change_cell(Z, (0, 0, 0), 10**400), "amount must be a number or 3 of them, got 1000"),
        (lambda: change_cell(Z, (0, 0, 0), "1.5"), "amount must be a number or 3 of them, got '1.5'"),
        (lambda: change_cell(Z, (0, 0, 0), True), "amount must be a number or 3 of them, got True"),
        (lambda: amplify_channel(Z, 0, "2"), "factor must be a finite number, got '2'"),
        (lambda: shift_channel(Z, 0, 4), "latent_frames must be an integer from -3 to 3, got 4"),
        (lambda: shift_channel(Z, 0, 0.5), "latent_frames must be an integer from -3 to 3, got 0.5"),
        (lambda: swap_channel(Z, OTHER[:, :, :2], 0), r"other must have the shape of z, \(1, 3, 4, 2, 5\), got"),
        (lambda: swap_channel(Z, None, 0), r"other must be a tensor \(1, C, L, h, w\), got NoneType"),
        (lambda: interpolate(Z, bad, 0.5), "other must be finite"),
        (lambda: interpolate(Z, OTHER, 1.5), "weight must be from 0 to 1, got 1.5"),
        (lambda: change_cell(Z, (0, 2, 0), 1), "row of cell must be an integer from 0 to 1, got 2"),
        (lambda: change_cell(Z, (4, 0, 0), 1), "latent frame of cell must be an integer from 0 to 3, got 4"),
        (lambda: change_cell(Z, (0, 0), 1), r"cell must be \(latent frame, row, column\), got \(0, 0\)"),
        (lambda: change_cell(Z, (0, 0, 0), [1, 2]), "amount must be a finite number, or one for each of 3 channels"),
        (lambda: change_cell(Z, (0, 0, 0), [1, 2, 3], 0), r"amount must be a finite number, got \[1, 2, 3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_what_the_type_cannot_hold_is_refused_by_name():
    half, large = Z.half(), torch.full_like(Z, 1e6)
    for change, message in (
        (
            lambda: amplify_channel(Z, 0, 1e300),
            r"factor must keep z within torch.float32, at most 3.4e\+38, got 1e\+300",
        ),
        (lambda: amplify_channel(Z, 0, 3e38), r"factor must keep z within torch.float32, at most 3.4e\+38, got 3e\+38"),
        (lambda: swap_channel(half, large, 0), r"other must keep z within torch.float16, .* got up to 1e\+06"),
        (lambda: interpolate(half, large, 1), "other must keep z within torch.float16"),
        (lambda: change_cell(half, (0, 0, 0), 1e6, 0), "amount must keep z within torch.float16"),
        (lambda: change_cell(half, (0, 0, 0), 1e6), "amount must keep z within torch.float16"),
    ):
        with pytest.raises(ValueError, match=message):
            change()


# ---- declarations --------------------------------------------------------------------------------------------------


def test_requests_and_functions_make_the_same_edits():
    pairs = [
        ({"operation": "zero", "channel": 1}, zero_channel(Z, 1)),
        ({"operation": "amplify", "channel": 2, "factor": -1.5}, amplify_channel(Z, 2, factor=-1.5)),
        ({"operation": "shift", "channel": 0, "latent_frames": -2}, shift_channel(Z, 0, -2)),
        ({"operation": "swap", "channel": 1}, swap_channel(Z, OTHER, 1)),
        ({"operation": "interpolate", "weight": 0.3}, interpolate(Z, OTHER, 0.3)),
        (
            {"operation": "cell", "cell": [3, 1, 4], "amount": 2, "channel": None},
            change_cell_by_std(Z, (3, 1, 4), 2, None),
        ),
    ]
    assert {request["operation"] for request, _ in pairs} <= EDITS.keys()
    for request, right in pairs:
        found, values = requested(request, Z, has_other=True)
        assert torch.equal(found.apply(Z, values, OTHER), right)
    std = Z[0, 2].double().std(correction=0)
    assert torch.allclose(change_cell_by_std(Z, (0, 0, 1), -2, 2), change_cell(Z, (0, 0, 1), -2 * std.item(), 2))


def test_forms_say_what_the_browser_draws_and_what_is_missing():
    forms = {name: made.form(Z.shape, has_other=False) for name, made in EDITS.items()}
    factor = {"kind": "number", "name": "factor", "label": "factor", "min": -2, "max": 4, "step": 0.25, "value": 2}
    assert forms["amplify"]["controls"] == [{"kind": "channel", "name": "channel", "orAll": False}, factor]
    assert forms["shift"]["controls"][1] | {"min": -3, "max": 3, "step": 1, "value": 1} == forms["shift"]["controls"][1]
    assert [control["kind"] for control in forms["cell"]["controls"]] == ["cell", "number", "channel"]
    missing = "needs other=, the latents of a second clip"
    assert {name: form["needs"] for name, form in forms.items() if form["needs"]} == dict.fromkeys(
        ("swap", "interpolate"), missing
    )
    still = EDITS["shift"].form((1, 3, 1, 2, 5), has_other=True)
    assert (
        still["needs"] == "needs two latent frames"
        and EDITS["swap"].form((1, 3, 1, 2, 5), has_other=True)["needs"] == ""
    )


def test_an_edit_checks_what_it_is_called_with_and_may_change_its_copy(monkeypatch):
    monkeypatch.setattr("vae_lab.latents.edits.EDITS", {})
    before = Z.clone()

    @edit("bias", Channel(or_all=True), Number("amount", -1, 1, default=0.5, strict=True), title="{channel} + {amount}")
    def bias(z, channel, amount):
        """Add a number."""
        z[:, slice(None) if channel is None else channel] += amount
        return z

    assert torch.equal(bias(Z, None, 0.5), Z + 0.5) and torch.equal(Z, before) and bias.__doc__ == "Add a number."
    found, values = requested({"operation": "bias", "channel": 1, "amount": 1}, Z, has_other=False)
    assert found.words(values) == "channel 1 + 1" and torch.equal(found.apply(Z, values), bias(Z, channel=1, amount=1))
    for call, message in (
        (lambda: bias(Z, 3, 0.5), "channel must be an integer from 0 to 2, got 3"),
        (lambda: bias(Z, 0, 1.5), "amount must be from -1 to 1, got 1.5"),
        (lambda: bias(Z[0], 0, 0.5), r"z must be \(1, C, L, h, w\)"),
        (
            lambda: requested({"operation": "zero", "channel": 0}, Z, False),
            r"what it takes \(bias: channel, amount\), got",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_declaration_that_does_not_fit_its_function_is_refused(monkeypatch):
    monkeypatch.setattr("vae_lab.latents.edits.EDITS", {})
    with pytest.raises(ValueError, match="edit 'a' must take z, channel, but its function takes z, factor"):
        edit("a", Channel(), title="a")(lambda z, factor: z)
    cut = edit("cut", Channel(), title="cut")(lambda z, channel: z[:, :channel])
    with pytest.raises(ValueError, match=r"edit 'cut' must keep the shape \(1, 3, 4, 2, 5\), got \(1, 2, 4, 2, 5\)"):
        cut(Z, 2)
    louder = edit("louder", title="louder")(lambda z: z * torch.inf)
    with pytest.raises(ValueError, match=r"louder must keep z within torch.float32, at most 3.4e\+38, got more"):
        louder(Z)
    for title in ("{chanel} off", "{}", "{channel", "{channel.number}", None):
        with pytest.raises(ValueError, match=r"title of edit 'off' must be a template for channel, got .*Error"):
            edit("off", Channel(), title=title)
    assert "off" not in EDITS
    for form in ("{:q}", "{factor:g}", "{} {}"):
        with pytest.raises(ValueError, match="form of factor must be a template for a number, got "):
            Number("factor", 0, 1, form=form)


def test_what_overflows_is_blamed_and_not_what_stands_beside_it(monkeypatch):
    monkeypatch.setattr("vae_lab.latents.edits.EDITS", {})

    @edit("add", Number("factor", -9, 9), title="plus {factor}")
    def add(z, other, factor):
        return z + factor * other

    half = Z.half()
    with pytest.raises(ValueError, match=r"^factor must keep z within torch.float16, at most 6.55e\+04, got 1000000.0"):
        add(half, OTHER.half(), 1e6)
    with pytest.raises(ValueError, match=r"^other must keep z within torch.float16, at most .*, got up to 1e\+06"):
        add(half, torch.full_like(Z, 1e6), 0.0)


def test_arrays_and_tensors_are_numbers_and_cells():
    right = change_cell_by_std(Z, (3, 1, 4), 2, 1)
    for kind in (np.array, torch.tensor):
        for cell in (kind([3, 1, 4]), tuple(map(kind, (3, 1, 4)))):
            assert torch.equal(change_cell_by_std(Z, cell, kind(2.0), kind(1)), right)
            assert torch.equal(change_cell(Z, cell, kind(2.0), kind(1)), change_cell(Z, (3, 1, 4), 2, 1))
        assert torch.equal(shift_channel(Z, kind(1), kind(-2)), shift_channel(Z, 1, -2))
        with pytest.raises(ValueError, match="row of cell must be an integer from 0 to 1, got 2"):
            change_cell(Z, kind([0, 2, 0]), 1)
        with pytest.raises(ValueError, match="cell must be .latent frame, row, column., got .*0, 2"):
            change_cell(Z, kind([0, 2]), 1)
