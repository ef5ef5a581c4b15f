import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.helpers import SMALL_SPATIAL
from tests.helpers.video import encode, moving, overwrite, packets
from vae_lab import SpatialVAE, photo_clip, synthetic_clip, write_video
from vae_lab.training.data import SyntheticClips, VideoFolder, batches, cache_latents, to_pixels
from vae_lab.video.frames import to_tensor


@pytest.fixture
def folder(tmp_path):
    """Two videos in folders, an image, a broken file, and one that is no video at all."""
    (tmp_path / "deep").mkdir()
    write_video(tmp_path / "a.mkv", photo_clip("motorcycle_left", 12, (40, 56), seed=1).frames, lossless=True)
    write_video(tmp_path / "deep" / "b.mkv", synthetic_clip("texture", 3, (32, 32)).frames, lossless=True)
    write_video(tmp_path / "still.png", photo_clip("grace_hopper", 1, (32, 32)).frames)
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("notes")
    return tmp_path


def test_a_folder_lists_what_it_can_read_and_what_it_skipped(folder):
    clips = VideoFolder(folder)
    assert [path.name for path in clips.files] == ["a.mkv", "b.mkv", "still.png"]
    assert list(clips.skipped) == [str(folder / "bad.mp4")]
    assert clips.describe() != VideoFolder(folder / "deep").describe()


def test_windows_come_from_the_videos_and_repeat(folder):
    (folder / "still.png").unlink()
    clips = VideoFolder(folder)
    drawn = [clips.draw((0, i), 5, 24) for i in range(12)]
    assert all(clip.shape == (5, 24, 24, 3) and clip.dtype == np.uint8 for clip in drawn)
    assert all(np.array_equal(clip, VideoFolder(folder).draw((0, i), 5, 24)) for i, clip in enumerate(drawn))
    assert len({clip.tobytes() for clip in drawn}) == 12
    starts = {clips.draw((1, i), 12, 24).tobytes() for i in range(3)}  # the whole of a.mkv: b.mkv is too short
    assert len(starts) == 3
    with pytest.raises(ValueError, match="gives 13 frames: .*(a.mkv has 12|b.mkv has 3) frames"):
        clips.draw((0, 0), 13, 24)


def test_an_image_stands_still(folder):
    for name in ("a.mkv", "deep/b.mkv"):
        (folder / name).unlink()
    clip = VideoFolder(folder).draw((0, 0), 4, 16)
    assert (clip == clip[0]).all()


def test_a_file_that_breaks_after_it_was_listed_is_replaced(folder):
    clips = VideoFolder(folder)
    whole = (folder / "a.mkv").read_bytes()
    (folder / "a.mkv").write_bytes(whole[:400].ljust(len(whole), b"\0"))
    with pytest.warns(UserWarning, match=r"a.mkv .*: another file takes its place"):
        assert all(clips.draw((0, i), 3, 16).shape == (3, 16, 16, 3) for i in range(40))


def test_a_damaged_packet_costs_no_training(tmp_path):
    path = encode(tmp_path / "whole.mp4", moving(20), options={"g": "5", "bf": "0"})
    overwrite(path, tmp_path / "bad.mp4", [packets(path)[12]])
    path.unlink()
    clips = VideoFolder(tmp_path)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        drawn = [clips.draw((0, i), 8, 16) for i in range(30)]
    assert all(clip.shape == (8, 16, 16, 3) for clip in drawn)
    assert sum("bad.mp4: 1 frame could not be decoded: 12" in str(warning.message) for warning in warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = VideoFolder(tmp_path)
        assert all(np.array_equal(again.draw((0, i), 8, 16), drawn[i]) for i in reversed(range(30)))


def test_folders_with_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder at"):
        VideoFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no video in .* can be read: it holds no file ending in"):
        VideoFolder(tmp_path)
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no video in .* can be read: .*bad.mp4"):
        VideoFolder(tmp_path)


def test_workers_make_the_same_batches():
    items = [[((3, i), 2), ((4, i), 2)] for i in range(3)]
    here, there = (list(batches(SyntheticClips(), 16, items, workers)) for workers in (0, 2))
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    assert len(here) == 3 and here[0].shape == (2, 2, 16, 16, 3)
    assert torch.equal(to_pixels(here[0])[:1], to_tensor(here[0][0].numpy()))


@torch.no_grad()
def test_the_cache_holds_what_the_2d_half_gives_and_is_made_once(tmp_path):
    torch.manual_seed(0)
    spatial = SpatialVAE(**SMALL_SPATIAL).eval()
    settings = dict(count=3, num_frames=4, size=16, seed=5, with_frames=True, progress=False)
    cache = cache_latents(tmp_path, SyntheticClips(), spatial, **settings)
    for i in range(3):
        clip = SyntheticClips().draw((5, i), 4, 16)
        z = spatial.encode(to_tensor(clip)).latent_dist.mode()[0].transpose(0, 1)
        assert np.array_equal(cache.frames[i], clip) and np.allclose(cache.latents[i], z, atol=1e-6)
    assert cache.latents.shape == (3, 4, 4, 2, 2)

    place = next(tmp_path.glob("latents-*"))
    stamp = (place / "latents.npy").stat().st_mtime_ns
    cache_latents(tmp_path, SyntheticClips(), spatial, **settings)
    without = cache_latents(tmp_path, SyntheticClips(), spatial, **settings | dict(with_frames=False))
    assert without.frames is None and np.array_equal(without.latents, cache.latents)
    (place / "frames-finished").unlink()  # frames wanted later: the latents stay
    cache_latents(tmp_path, SyntheticClips(), spatial, **settings)
    assert (place / "latents.npy").stat().st_mtime_ns == stamp
    (place / "latents-finished").unlink()  # as after a kill
    (place / "latents.npy").write_bytes(b"half")
    again = cache_latents(tmp_path, SyntheticClips(), spatial, **settings)
    assert np.array_equal(again.latents, cache.latents)

    spatial.autoencoder.quant_conv.bias += 1  # other weights, other latents
    other = cache_latents(tmp_path, SyntheticClips(), spatial, **settings | dict(with_frames=False))
    assert other.frames is None and not np.allclose(other.latents, cache.latents)
    assert len(list(tmp_path.glob("latents-*"))) == 2


def test_two_that_share_a_cache_make_it_once(tmp_path):
    encoded = []
    spatial = SpatialVAE(**SMALL_SPATIAL).eval()
    spatial.autoencoder.encoder.register_forward_hook(lambda *_: encoded.append(1))
    settings = dict(count=8, num_frames=2, size=16, seed=5, with_frames=False, progress=False)
    with ThreadPoolExecutor(2) as pool:
        a, b = pool.map(lambda _: cache_latents(tmp_path, SyntheticClips(), spatial, **settings), range(2))
    assert len(encoded) == 8 and np.array_equal(a.latents, b.latents)


def test_windows_of_the_cache_start_anywhere_and_run_both_ways(tmp_path):
    spatial = SpatialVAE(**SMALL_SPATIAL).eval()
    cache = cache_latents(tmp_path, SyntheticClips(), spatial, count=2, num_frames=6, size=16, seed=5, with_frames=True,
                          progress=False)  # fmt: skip
    found = set()
    for i in range(200):
        latents, frames = cache.window((1, i), 4)
        for clip in range(2):
            for first in range(3):
                for step in (1, -1):
                    same = np.array_equal(latents, cache.latents[clip, first : first + 4][::step])
                    if same and np.array_equal(frames, cache.frames[clip, first : first + 4][::step]):
                        found.add((clip, first, step))
    assert len(found) == 12
