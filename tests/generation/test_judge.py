"""Prompts, the clips that are drawn of them, and what the judge reads from true, spoiled and decoded clips."""

from itertools import product

import numpy as np
import pytest
import torch

from vae_lab import load, to_frames, to_tensor
from vae_lab.generation import Prompt, all_prompts, embed, prompted_clip, read_clip, score
from vae_lab.generation.judge import KINDS, SMALLEST
from vae_lab.generation.prompted_clips import RADIUS, draw_object
from vae_lab.generation.prompts import COLOURS, DIRECTIONS, SHAPES, SPEEDS, WORDS


def clip_of(prompt: str, seed: int = 0) -> np.ndarray:
    return prompted_clip(np.random.default_rng(seed), prompt)


# ---- prompts --------------------------------------------------------------------------------------------------------


def test_words_come_in_any_order_and_the_speed_may_be_left_out():
    assert Prompt.parse("LEFT red  disc") == Prompt("red", "disc", "left", "fast")
    assert Prompt.parse("slow up bar blue") == Prompt("blue", "bar", "up", "slow")
    assert all(Prompt.parse(str(prompt)) == prompt for prompt in all_prompts())
    assert len(set(all_prompts())) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("purple disc left", r"prompt 'purple disc left' has the unknown word 'purple'; known are colour: red, green"),
        ("red disc left up", "must have one direction, it has 'left' and 'up'"),
        ("red fast", "prompt 'red fast' needs a word for its shape and direction; known are .* shape: disc, bar"),
        ("", "prompt '' needs a word for its colour and shape and direction"),
        (7, "prompt must be a string, got 7"),
    ],
)
def test_other_words_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Prompt.parse(text)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: embed("red disc left"), "prompts must be a list of prompts, got 'red disc left'"),
        (lambda: embed(Prompt("red", "disc", "left")), r"prompts must be a list of prompts, got Prompt\(colour='red'"),
        (lambda: embed(None), "prompts must be a list of prompts, got None"),
        (lambda: embed([]), r"prompts must have at least one prompt, got \[\]"),
        (lambda: embed([5]), "prompt must be a string, got 5"),
        (lambda: embed([Prompt("disc", "red", "left")]), "colour of Prompt.* must be one of red, .*, got 'disc'"),
        (lambda: clip_of(Prompt("red", "box", "left")), "shape of Prompt.* must be one of disc, bar, got 'box'"),
        (lambda: prompted_clip(0, "red disc left"), "random must be a generator of numpy, .*, got 0"),
        (lambda: score([Prompt("red", "disc", "back")], []), "direction of Prompt.* must be one of .*, got 'back'"),
        (lambda: score("red disc left", [clip_of("red disc left")]), "prompts must be a list of prompts"),
        (lambda: score([], []), "prompts must have at least one prompt"),
    ],
)
def test_prompts_are_refused_wherever_they_are_taken(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_each_word_has_a_token():
    y = embed(["red disc left", Prompt("blue", "bar", "up", "slow")], 16)
    assert y.shape == (2, 4, 16)
    assert y.argmax(2).tolist() == [[WORDS.index(w) for w in ("red", "disc", "left", "fast")],
                                    [WORDS.index(w) for w in ("blue", "bar", "up", "slow")]]  # fmt: skip
    assert torch.equal(y.square().sum(2), torch.full((2, 4), 16.0))
    with pytest.raises(ValueError, match=f"channels must be an integer of at least {len(WORDS)}, got 3"):
        embed(["red disc left"], 3)


# ---- true clips -----------------------------------------------------------------------------------------------------


def test_the_judge_is_right_on_each_of_512_clips():
    prompts = all_prompts() * 8
    clips = [prompted_clip(np.random.default_rng(i), prompt) for i, prompt in enumerate(prompts)]
    scores = score(prompts, clips)
    assert [scores.share(kind) for kind in KINDS] == [1] * len(KINDS)
    assert all(abs(r.speed / SPEEDS[p.speed] - 1) < 0.01 for p, r in zip(prompts, scores.readings, strict=True))
    assert scores.relative_speed == pytest.approx(1, abs=1e-3)
    assert all(clip.shape == (17, 64, 64, 3) and clip.dtype == np.uint8 for clip in clips)
    assert all((clip[:, edge] == clip[0, 0, 0]).all() for clip in clips for edge in (0, -1))  # inside the frame
    assert len({clip.tobytes() for clip in clips}) == len(clips)


@pytest.mark.parametrize("name", ["lab", "lab-frame-group"])
@torch.no_grad()
def test_the_judge_is_right_on_clips_that_a_vae_has_coded(name):
    vae, prompts = load(name), all_prompts()[::3]
    clips = []
    for i, prompt in enumerate(prompts):
        x = to_tensor(prompted_clip(np.random.default_rng([9, i]), prompt))
        clips.append(to_frames(vae.decode(vae.encode(x).latent_dist.mode(), 17).sample))
    scores = score(prompts, clips)
    assert [scores.share(kind) for kind in KINDS] == [1] * len(KINDS)
    assert scores.relative_speed == pytest.approx(1, abs=0.02)


def test_equal_seeds_give_equal_clips_of_any_length():
    assert np.array_equal(clip_of("red disc left", 3), clip_of("left disc red fast", 3))
    short = prompted_clip(np.random.default_rng(0), "red bar up slow", 5, 40)
    assert short.shape == (5, 40, 40, 3) and read_clip(short).direction == "up"
    with pytest.raises(ValueError, match="size must be at least 60 for 17 frames of 'red bar up fast', got 48"):
        prompted_clip(np.random.default_rng(0), "red bar up", 17, 48)


# ---- spoiled clips --------------------------------------------------------------------------------------------------

TRUE = "green disc right"
CENTRES = np.linspace((14, 32), (46, 32), 17)


def spoiled(kind: str) -> np.ndarray:
    """A clip of TRUE with one thing wrong."""
    clip, random = draw_object("green", "disc", CENTRES, 64), np.random.default_rng(0)
    if kind == "backwards":
        return clip[::-1]
    if kind == "frames in another order":
        return clip[random.permutation(17)]
    if kind == "still":
        return np.repeat(clip[:1], 17, 0)
    if kind == "diagonal":
        return draw_object("green", "disc", np.linspace((14, 14), (46, 46), 17), 64)
    if kind == "half as fast":
        return draw_object("green", "disc", np.linspace((22, 32), (38, 32), 17), 64)
    if kind == "another colour from the middle on":
        return np.concatenate([clip[:8], draw_object("blue", "disc", CENTRES, 64)[8:]])
    if kind == "a bar from the middle on":
        return np.concatenate(
            [draw_object("green", "disc", CENTRES, 64)[:8], draw_object("green", "bar", CENTRES, 64)[8:]]
        )
    if kind == "grey":
        return np.repeat(clip.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    if kind == "empty":
        return np.full_like(clip, 128)
    if kind == "noise":
        return random.integers(0, 256, clip.shape, dtype=np.uint8)
    other = draw_object("green", "disc", CENTRES * (1, 0) + (0, 12), 64)
    if kind == "two objects":
        return np.where(np.abs(other.astype(int) - 128).max(-1, keepdims=True) > 2, other, draw_object(
            "green", "disc", CENTRES * (1, 0) + (0, 50), 64))  # fmt: skip
    assert kind == "gone in one frame"
    return np.where(np.arange(17)[:, None, None, None] == 5, 128, clip).astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("backwards", {"direction"}),
        ("frames in another order", {"direction", "speed"}),
        ("still", {"direction", "speed"}),
        ("diagonal", {"direction", "speed"}),
        ("half as fast", {"speed"}),
        ("another colour from the middle on", {"colour"}),
        ("a bar from the middle on", {"shape"}),
        ("grey", set(KINDS)),
        ("empty", set(KINDS)),
        ("two objects", {"one object"}),
        ("gone in one frame", {"one object"}),
    ],
)
def test_what_is_wrong_is_seen(kind, wrong):
    scores = score([TRUE], [spoiled(kind)])
    assert {name for name in KINDS if not scores.share(name)} == wrong


def test_noise_shows_nothing():
    reading = read_clip(spoiled("noise"))
    assert (reading.colour, reading.shape, reading.direction, set(reading.objects)) == (None, None, None, {0})


def test_every_pair_of_prompts_is_told_apart():
    """Exactly the words that differ are wrong."""
    prompts = [Prompt("red", "disc", "left", "slow"), Prompt("yellow", "bar", "down", "fast")]
    mixed = [Prompt(*words) for words in product(*zip(*prompts, strict=True))]
    readings = {prompt: prompted_clip(np.random.default_rng(5), prompt) for prompt in mixed}
    for asked, (shown, clip) in product(mixed, readings.items()):
        scores = score([asked], [clip])
        assert [bool(scores.share(kind)) for kind in Prompt._fields] == [
            a == b for a, b in zip(asked, shown, strict=True)
        ]


def test_small_specks_are_no_objects():
    clip = clip_of("blue disc up")
    side = int(SMALLEST**0.5)
    clip[:, :side, :side] = 255 * np.array(COLOURS["blue"])
    assert read_clip(clip).one_object and side**2 < SMALLEST < np.pi * RADIUS**2 / 5


def test_scores_print_and_tabulate():
    prompts = ["red disc left", "blue bar up slow"]
    scores = score(prompts, [clip_of("red disc left"), clip_of("blue bar down slow")])
    assert repr(scores) == "<2 clips; right: colour 100%, shape 100%, direction 50%, speed 100%, one object 100%; " \
                           "speed 1.000 of the asked>"  # fmt: skip
    table = scores.table()
    assert table["prompt"].tolist() == ["red disc left fast", "blue bar up slow"]
    assert table["direction"].tolist() == ["left", "down"] and table["direction right"].tolist() == [True, False]
    assert scores.readings[0].describe() == "red disc, left, 2.00 pixels per frame, one object in every frame"
    assert (
        read_clip(spoiled("empty")).describe().startswith("no constant colour of no constant shape, no clear direction")
    )
    for ask in (scores.right, scores.share):
        with pytest.raises(ValueError, match="kind must be one of colour, shape, .*, one object, got 'colours'"):
            ask("colours")
    with pytest.raises(ValueError, match="prompts and clips must be as many, got 2 and 0"):
        score(prompts, [])
    with pytest.raises(ValueError, match=r"frames must be uint8 \(T, H, W, 3\)"):
        read_clip(np.zeros((3, 8, 8, 3)))


def test_the_words_are_those_of_the_tables():
    assert (*COLOURS, *SHAPES, *DIRECTIONS, *SPEEDS) == WORDS
