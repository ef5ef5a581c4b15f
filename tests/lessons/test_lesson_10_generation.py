import numpy as np
import pytest
import torch

from tests.helpers import small_vae
from tests.helpers.lessons import check_of
from vae_lab.families import codec_of
from vae_lab.generation import STDiT3, read_clip
from vae_lab.lessons import (
    drawn_clips,
    grain,
    question,
    raw_latents,
    sample_grid,
    similarity,
    transformer_flops,
    without_temporal_blocks,
)
from vae_lab.video import to_frames

SMALL = dict(in_channels=4, hidden_size=16, depth=2, num_heads=2, caption_channels=8, model_max_length=3)


def test_measured_answers_follow_the_measurement():
    assert question("where the flow bends", {"noise": 0.1, "middle": 0.02, "clip": 0.4})("clip").right is True
    assert question("the worst scale", {"raw": 0.2, "a tenth": 0.9})("raw").right is True


def test_walks_that_go_wrong():
    check = check_of("write a walk")
    assert check(lambda model, noise, n: noise).right is False
    shrinking = lambda model, noise, n: noise - model(noise, torch.full((2,), 1000.0))  # noqa: E731
    assert "a model of two clips, 1 steps" in check(shrinking).message


def test_drawn_clips_show_their_prompts_at_places_of_their_own():
    prompts = ["red disc left", "red disc left", "blue bar up slow"]
    x = drawn_clips(prompts, num_frames=9)
    assert x.shape == (3, 3, 9, 64, 64) and torch.equal(x, drawn_clips(prompts, num_frames=9))
    assert not torch.equal(x[0], x[1]) and not torch.equal(x, drawn_clips(prompts, num_frames=9, seed=1))
    seen = [read_clip(to_frames(clip[None])) for clip in x]
    assert [(s.colour, s.shape, s.direction) for s in seen[1:]] == [("red", "disc", "left"), ("blue", "bar", "up")]


def test_latents_are_those_of_the_vae_in_any_batch():
    codec, x = codec_of(small_vae()), torch.rand(18, 3, 1, 16, 16)
    z = raw_latents(codec, x)
    assert torch.allclose(z, torch.cat([codec.encode(clip[None]) for clip in x]), atol=1e-5)


def test_similarity_is_a_correlation():
    a = torch.randn(4, 5)
    assert similarity(a, 3 * a + 1) == pytest.approx(1) and similarity(a, -a) == pytest.approx(-1)


def test_grain_looks_at_the_left_and_right_border_only():
    clips = np.full((2, 1, 8, 8, 3), 127, np.uint8)
    assert grain(clips) == pytest.approx(0.5)
    clips[:, :, :, 2:6] = 0
    assert grain(clips) == pytest.approx(0.5)
    clips[:, :, :, -2:] = 0
    assert grain(clips) == pytest.approx(np.sqrt((0.5**2 + 127.5**2) / 2))


def test_the_grid_shows_every_nth_sample():
    images = {"a": np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1, 1) * np.ones((1, 2, 2, 3), np.uint8)}
    figure = sample_grid(images, ["red disc left", "green disc up", "blue bar up", "red bar up"], every=2)
    assert [axis.get_title() for axis in figure.axes] == ["red disc", "blue bar"]
    assert (figure.axes[1].images[0].get_array() == 2).all()


def test_counting_leaves_the_model_where_it_was():
    model = STDiT3(**SMALL)
    flops = transformer_flops(model, (3, 4, 6))
    assert flops == transformer_flops(STDiT3(**SMALL), (3, 4, 6)) < transformer_flops(model, (6, 4, 6))
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_without_temporal_blocks_each_frame_is_alone():
    model = STDiT3(**SMALL)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, y = torch.randn(1, 4, 3, 4, 4), torch.randn(1, 3, 8)
    changed = x.clone()
    changed[:, :, 2] += 1
    with torch.no_grad():
        for each, alone in ((model, False), (without_temporal_blocks(model), True)):
            a, b = (each(z, torch.tensor([500.0]), y, fps=24, height=32, width=32).sample for z in (x, changed))
            assert torch.equal(a[:, :, :2], b[:, :, :2]) is alone and not torch.equal(a[:, :, 2], b[:, :, 2])
