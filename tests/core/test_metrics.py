import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from vae_lab import psnr, ssim, synthetic_clip, to_tensor
from vae_lab.metrics import (
    FRAME_METRICS,
    FrameMetric,
    bicubic_round_trip,
    linear_in_time,
    measure_frames,
    psnr_of_rms,
    rms,
)


def test_psnr_of_a_known_error():
    x = torch.zeros(2, 3, 4, 8, 8)
    y = x.clone()
    y[1, :, 2] += 0.2  # 20 dB below a range of 2
    values = psnr(x, y, data_range=2.0)
    assert values.shape == (2, 4)
    assert values[1, 2].item() == pytest.approx(20.0)
    assert torch.isinf(values).sum() == 7


def test_psnr_agrees_with_scikit_image():
    x, y = torch.rand(2, 1, 3, 2, 16, 16)
    frames = zip(x[0].unbind(1), y[0].unbind(1), strict=True)
    expected = [peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1.0) for a, b in frames]
    assert psnr(x, y, data_range=1.0)[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_ssim_is_wangs():
    """Against the formula of Wang et al. 2004, written out: 11x11 Gaussian windows of sigma 1.5, valid ones only."""
    x = torch.rand(1, 1, 1, 24, 24, dtype=torch.double)
    y = (x + 0.1 * torch.randn_like(x)).clamp(0, 1)
    axis = torch.arange(-5, 6, dtype=torch.double)
    line = torch.exp(-(axis**2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2
    mean = lambda v: torch.nn.functional.conv2d(v[0], window[None, None])  # noqa: E731
    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    expected = ((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
    assert ssim(x, y, data_range=1.0).item() == pytest.approx(expected.item(), abs=1e-9)


def test_ssim_is_one_for_equal_frames_and_a_number_a_frame():
    x = torch.rand(2, 3, 3, 11, 12) * 2 - 1
    y = x.clone()
    y[1, :, 2] = torch.rand(3, 11, 12) * 2 - 1
    values = ssim(x, y, data_range=2.0)
    assert values.shape == (2, 3)
    assert values[0].tolist() == pytest.approx([1, 1, 1])
    assert values[1, 2] < 0.5
    assert np.isfinite(values.numpy()).all()


@pytest.mark.parametrize(
    ("x", "y", "data_range", "message"),
    [
        (torch.zeros(1, 3, 1, 16, 16), torch.zeros(1, 3, 2, 16, 16), 2.0, "x and y must have the same shape"),
        (torch.zeros(1, 3, 1, 16, 16), torch.full((1, 3, 1, 16, 16), torch.nan), 2.0, "y must be finite"),
        (torch.zeros(3, 1, 16, 16), torch.zeros(3, 1, 16, 16), 2.0, r"x must be a tensor of shape \(B, C, T, H, W\)"),
        (torch.zeros(1, 3, 1, 16, 16), torch.zeros(1, 3, 1, 16, 16), 0, "data_range must be above 0 and finite, got 0"),
    ],
)
def test_errors(x, y, data_range, message):
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match=message):
            metric(x, y, data_range=data_range)


def test_ssim_needs_its_window():
    with pytest.raises(ValueError, match=r"ssim needs frames of at least 11x11 pixels, got \(10, 16\)"):
        ssim(torch.zeros(1, 3, 1, 10, 16), torch.zeros(1, 3, 1, 10, 16), data_range=2.0)


def test_bicubic_round_trip():
    flat = torch.full((2, 3, 2, 16, 24), 0.25)
    torch.testing.assert_close(bicubic_round_trip(flat), flat)
    smooth = to_tensor(synthetic_clip("texture", 3, (128, 128)).frames)
    fine = smooth[..., ::8, ::8].repeat(1, 1, 1, 8, 8)
    assert psnr(smooth, bicubic_round_trip(smooth), 2.0).min() > 20 > psnr(fine, bicubic_round_trip(fine), 2.0).max()
    with pytest.raises(ValueError, match=r"height \(12\) must be a multiple of factor \(8\)"):
        bicubic_round_trip(torch.zeros(1, 3, 1, 12, 16))
    with pytest.raises(ValueError, match="factor must be at least 1, got 0"):
        bicubic_round_trip(flat, factor=0)
    assert bicubic_round_trip(torch.zeros(1, 3, 1, 49, 49), factor=49).shape == (1, 3, 1, 49, 49)  # 49 * (1 / 49) < 1


def test_linear_in_time_keeps_every_fourth_frame_and_draws_lines_between():
    x = torch.rand(2, 3, 20, 4, 5)
    y = linear_in_time(x)
    kept = [0, 4, 8, 12, 16, 17]  # chunks of 17: the second has three frames and keeps its first
    assert torch.equal(y[:, :, kept], x[:, :, kept])
    assert torch.allclose(y[:, :, 5], 0.75 * x[:, :, 4] + 0.25 * x[:, :, 8])
    assert torch.equal(y[:, :, 18], x[:, :, 17]) and torch.equal(y[:, :, 19], x[:, :, 17])
    ramp = torch.arange(17.0).view(1, 1, 17, 1, 1)
    assert torch.allclose(linear_in_time(ramp), ramp)  # what moves evenly comes back
    assert torch.equal(linear_in_time(x, 1), x)
    assert torch.equal(linear_in_time(x, 4, None)[:, :, 18], 0.5 * x[:, :, 16] + 0.5 * x[:, :, 16])
    with pytest.raises(ValueError, match="ratio must be .*at least 1"):
        linear_in_time(x, 0)


def test_psnr_of_an_rms_is_that_of_the_frames():
    x, y = torch.rand(2, 1, 3, 4, 8, 8) * 2 - 1
    differences = rms(x - y, axis=(0, 1, 3, 4))
    assert psnr_of_rms(differences) == pytest.approx(psnr(x, y, 2.0)[0].numpy(), abs=1e-5)
    assert psnr_of_rms(0.2) == pytest.approx(20.0) and psnr_of_rms(0.1, data_range=1.0) == pytest.approx(20.0)
    assert psnr_of_rms(0) == np.inf and psnr_of_rms([0.0, 2.0]).tolist() == [np.inf, 0.0]
    assert rms([3, 4]) == pytest.approx(12.5**0.5) and isinstance(rms([3, 4]), float)


def test_frames_are_measured_by_every_metric_that_is_defined_for_their_size():
    x, y = torch.rand(2, 1, 3, 4, 12, 11) * 2 - 1
    found = measure_frames(x, y)
    assert list(found) == list(FRAME_METRICS) and {"psnr", "ssim"} <= found.keys()
    assert found["psnr"].tolist() == psnr(x, y, 2.0)[0].tolist()
    assert found["ssim"].tolist() == ssim(x, y, 2.0)[0].tolist()
    assert set(found) - set(measure_frames(x[..., :10], y[..., :10])) == {"ssim"}
    assert measure_frames(x.clone().requires_grad_(), y)["psnr"].tolist() == found["psnr"].tolist()
    with pytest.raises(ValueError, match=r"x must be one clip \(1, C, T, H, W\), got shape \(2, 3, 4, 12, 11\)"):
        measure_frames(x.expand(2, -1, -1, -1, -1), y.expand(2, -1, -1, -1, -1))
    values = np.array([3.0, 1.0, 2.0])
    assert FRAME_METRICS["psnr"].worst(values) == 1 and FRAME_METRICS["psnr"].text(31.416) == "31.42 dB"
    error = FrameMetric(function=psnr, title="error", higher_is_better=False)
    assert error.worst(values) == 0 and error.text(0.5) == "0.5000"
