import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from tests.helpers.latents import OTHER, Z, enlarge
from vae_lab.figures.frames import ERROR_GAIN
from vae_lab.figures.latents import correlation_matrix, latent_filmstrip, spectrum_curves
from vae_lab.figures.style import COLOURS
from vae_lab.latents.edits import zero_channel
from vae_lab.latents.effects import channel_effects, effect, interpolation, paint
from vae_lab.latents.statistics import latent_report, posterior_statistics, scale_check, spatial_spectrum
from vae_lab.shapes import frame_groups


class Posterior:
    mean, std = Z.double() * torch.tensor([1, 0.01, 1]).view(1, 3, 1, 1, 1), torch.ones_like(Z)


def drawn(figure: Figure) -> list:
    """Its axes, after it has been laid out and drawn: a warning of the layout would be an error."""
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    return figure.axes


def texts(axes) -> list[str]:
    return [text for axis in axes for text in (axis.get_title(), axis.get_xlabel(), axis.get_ylabel()) if text]


def test_filmstrip_shows_the_middle_frame_of_every_group():
    frames = np.zeros((17, 8, 8, 3), np.uint8) + np.arange(17, dtype=np.uint8).reshape(17, 1, 1, 1)
    latent = np.random.default_rng(0).normal(size=(4, 5, 2, 2))
    (axis,) = drawn(latent_filmstrip(latent, frames, frame_groups(17)))
    images = sorted(axis.images, key=lambda image: (image.get_extent()[3], image.get_extent()[0]))  # row by row
    assert len(images) == 6 * 5  # frames, PCA and four channels
    assert [int(image.get_array()[0, 0, 0]) for image in images[:5]] == [0, 2, 6, 10, 14]
    titles = [label.get_text() for label in axis.get_xticklabels()]
    assert titles == ["0\n0", "1\n1 to 4", "2\n5 to 8", "3\n9 to 12", "4\n13 to 16"]
    assert axis.get_yticklabels()[2].get_text() == f"channel 0\n({latent[0].min():.1f} to {latent[0].max():.1f})"
    picture = images[10 + 3].get_array()  # channel 0, latent frame 3
    assert picture.shape == (2, 2, 3) and picture.sum(axis=2).argmax() == latent[0, 3].argmax()
    left, right, bottom, top = images[13].get_extent()
    assert left < axis.get_xticks()[3] < right and top < axis.get_yticks()[2] < bottom


def test_filmstrip_of_latents_alone_and_of_many():
    (axis,) = drawn(latent_filmstrip(np.random.default_rng(0).normal(size=(2, 30, 3, 4)), columns=4))
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "10", "19", "29"]
    assert [label.get_text().split("\n")[0] for label in axis.get_yticklabels()] == ["channel 0", "channel 1"]


def test_filmstrip_refuses_what_does_not_fit():
    latent, frames = np.zeros((4, 5, 2, 2)), np.zeros((17, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="frames and groups must be given together"):
        latent_filmstrip(latent, frames)
    with pytest.raises(ValueError, match="groups must be one for each of 5 latent frames, got 4"):
        latent_filmstrip(latent, frames, frame_groups(13))
    with pytest.raises(ValueError, match="groups must cover the 16 frames, got 17"):
        latent_filmstrip(latent, frames[:16], frame_groups(17))


def test_report_has_units_on_every_axis_and_the_numbers_in_its_curves():
    report = latent_report(Z)
    axes = drawn(report.plot())
    labels = texts(axes)
    for label in (
        "latent frame", "mean", "standard deviation", "lag in latent frames", "correlation", "cycles per latent cell",
        "cycles per latent frame", "power", "channel",
    ):  # fmt: skip
        assert label in labels
    means = next(axis for axis in axes if axis.get_ylabel() == "mean")
    assert np.allclose([line.get_ydata() for line in means.lines], report.frames.mean)
    power = next(axis for axis in axes if axis.get_xlabel() == "cycles per latent cell")
    assert np.allclose([line.get_ydata() for line in power.lines], report.spatial.power)
    assert power.get_xscale() == power.get_yscale() == "log"


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (1, 1, 1, 2, 1), (1, 20, 2, 3, 3), (1, 2, 3, 1, 9)])
def test_reports_of_small_and_large_latents_can_be_drawn(shape):
    drawn(latent_report(torch.randn(shape, generator=torch.Generator().manual_seed(0)), None, 0, 2).plot())
    drawn(scale_check(torch.zeros(shape), 0, 2).plot())


def test_correlations_are_written_where_there_is_room():
    (axis, _) = drawn(correlation_matrix(np.array([[1, -0.25], [-0.25, 1]])))
    assert [text.get_text() for text in axis.texts] == ["1.00", "-0.25", "-0.25", "1.00"]
    assert list(drawn(correlation_matrix(np.eye(17)))[0].texts) == []


def test_no_power_is_said():
    still = np.zeros((1, 1, 1, 4, 4))
    assert [text.get_text() for text in drawn(spatial_spectrum(still).plot())[0].texts] == ["no power"]
    axes = drawn(spectrum_curves(np.zeros(0), np.zeros((2, 0)), "cycles"))
    assert [text.get_text() for text in axes[0].texts] == ["one sample has no spectrum"]


def test_dead_channels_are_grey():
    from matplotlib.colors import to_hex

    left, right = drawn(posterior_statistics(Posterior()).plot())
    colours = [to_hex(bar.get_facecolor()).upper() for bar in left.patches]
    assert colours == [COLOURS["latent"], COLOURS["padding"], COLOURS["latent"]]
    assert right.get_yscale() == "log" and left.get_ylabel() == "KL in nats per element"


def test_scale_picture_has_every_hypothesis():
    found = scale_check(Z, 0.5, 2.0)
    axes = drawn(found.plot())
    assert np.allclose([bar.get_height() for bar in axes[1].patches], found.std)
    places = {collection.get_label(): collection.get_offsets()[:, 1] for collection in axes[1].collections}
    assert list(places) == list(found.divergence)
    assert np.allclose(places["denormalised"], 4) and np.allclose(places["normalised twice"], 0.5)


def test_effect_picture():
    found = effect(enlarge, Z, zero_channel(Z, 1))
    axes = drawn(found.plot())
    assert len(axes) == 3 * 6 + 1 and np.allclose(axes[-1].lines[0].get_ydata(), found.rms)
    assert axes[12].get_ylabel() == f"difference\nx{ERROR_GAIN}"
    assert axes[0].images[0].get_array().shape == (8, 20, 3)
    before, after = (np.asarray(axes[i].images[0].get_array(), int) for i in (0, 6))
    assert np.array_equal(before[..., [0, 2]], after[..., [0, 2]]) and (after[..., 1] == 128).all()


def test_bars_of_channel_effects():
    found = channel_effects(enlarge, Z, OTHER)
    (axis,) = drawn(found.plot())
    assert np.allclose(sorted(bar.get_height() for bar in axis.patches), np.sort(found.rms, axis=None))
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(found.names)


def test_paint_picture_frames_what_is_painted():
    found = paint(enlarge, Z, (1, 0, 2))
    left, right, _ = drawn(found.plot())
    (box,) = left.patches
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((7.5, -0.5), 4, 4)
    assert left.images[0].get_array().mask.sum() == 8 * 20 - 16  # what did not change stays white
    assert np.allclose([bar.get_height() for bar in right.patches[:8]], found.by_frame)
    assert right.get_yscale() == "log" and right.get_ylim()[0] < found.by_frame[found.by_frame > 0].min()
    drawn(paint(lambda z: enlarge(z) * 0, Z, (0, 0, 0)).plot())


def test_interpolation_picture():
    found = interpolation(lambda z: enlarge(z) ** 2, Z, OTHER, steps=3)
    axes = drawn(found.plot(frame=5))
    assert [axis.get_title() for axis in axes] == ["0.00", "0.50", "1.00", "", "", ""]
    expected = (found.frames[0, :, 5] + found.frames[2, :, 5]) / 2
    for axis, picture in ((axes[3], found.frames[0, :, 5]), (axes[4], expected), (axes[2], found.frames[2, :, 5])):
        shown = np.asarray(axis.images[0].get_array(), float) / 127.5 - 1
        assert np.allclose(shown, picture.permute(1, 2, 0), atol=1 / 255)
