import io
import multiprocessing
import os
from pathlib import Path

import pytest
import torch

from vae_lab.utils.files import folder_beside, hash_weights, locked, reason, save_state, write_beside


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, durable):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), write_beside(path, durable=durable) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file.txt", "old")]
    with write_beside(path, durable=durable) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file.txt", "new")]


def test_durable_files_are_flushed_before_they_are_moved(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr("vae_lab.utils.files.os.fsync", lambda descriptor: flushed.append(descriptor))
    for durable in (False, True):
        with write_beside(tmp_path / "file", durable=durable) as beside:
            beside.write_text("text")
        assert len(flushed) == durable


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    with folder_beside(path) as beside:
        (beside / "old").touch()
    (tmp_path / ".folder.partial").mkdir()  # left by a process that was killed
    (tmp_path / ".folder.partial" / "rest").touch()
    with pytest.raises(KeyboardInterrupt), folder_beside(path) as beside:
        assert not any(beside.iterdir())
        raise KeyboardInterrupt
    assert [p.name for p in path.iterdir()] == ["old"]
    with folder_beside(path) as beside:
        (beside / "new").touch()
    assert [p.name for p in path.iterdir()] == ["new"] and [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_signal_while_a_folder_is_made_leaves_none(tmp_path, monkeypatch):
    """Handlers run when the system's call returns, before the block has begun."""
    make = Path.mkdir

    def interrupted(*arguments, **options) -> None:
        make(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), folder_beside(tmp_path / "folder"):
        pass
    assert not list(tmp_path.iterdir())


def test_errors_of_torch_save_are_os_errors(tmp_path):
    with pytest.raises(OSError, match="does not exist|No such file") as refused:
        save_state({}, tmp_path / "none" / "state.pt")
    assert "state.pt" in str(refused.value) or "none" in str(refused.value)
    assert reason(refused.value) != ""
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("inline_container.cc: unexpected pos 64 vs 0\nframe #0") from None
    except RuntimeError as error:
        assert reason(error) == "No space left on device"
    assert reason(RuntimeError("unexpected pos\nframe #0")) == "unexpected pos"


def hold(path, held, done) -> None:
    with locked(path):
        held.set()
        done.wait(60)


def test_a_lock_refuses_or_waits(tmp_path):
    processes = multiprocessing.get_context("spawn")
    held, done = processes.Event(), processes.Event()
    other = processes.Process(target=hold, args=(tmp_path / ".lock", held, done))
    other.start()
    assert held.wait(60)
    with pytest.raises(LookupError, match="busy"), locked(tmp_path / ".lock", refusal=LookupError("busy")):
        pass
    with locked(tmp_path / ".lock", on_wait=done.set):  # the other one lets go when we wait
        assert done.is_set()
    other.join(60)
    for _ in range(2):  # it is free again after the block
        with locked(tmp_path / ".lock", refusal=LookupError("busy")):
            pass


def test_the_hash_of_weights_changes_with_any_bit_and_name():
    class Digest(io.BytesIO):
        update = io.BytesIO.write

    def hashed(**weights) -> bytes:
        digest = Digest()
        hash_weights(digest, weights)
        return digest.getvalue()

    a, b = torch.tensor([1.0, 2.0]), torch.tensor(3, dtype=torch.int64)
    assert hashed(a=a, b=b) == hashed(b=b, a=a) == b"a" + a.numpy().tobytes() + b"b" + b.numpy().tobytes()
    assert hashed(a=a, b=b) != hashed(a=a, c=b)
    assert hashed(a=a.to(torch.bfloat16)) != hashed(a=a)
    assert hashed(a=torch.tensor(0.0)) != hashed(a=torch.tensor(-0.0))


@pytest.mark.parametrize("name", ["a" * 251 + ".mp4", "\u00e4" * 125 + ".webm", "x" * 255, "\U0001f3a5" * 62 + ".json"])
@pytest.mark.parametrize("durable", [True, False])
def test_names_as_long_as_a_file_system_takes(name, durable, tmp_path):
    assert 250 < len(os.fsencode(name)) <= 255
    with write_beside(tmp_path / name, durable=durable) as beside:
        assert Path(name).suffix in (beside.suffix, "")
        beside.write_text("whole")
    with folder_beside(tmp_path / (name[1:] + "y")) as folder:
        (folder / "file").write_text("whole")
    assert (tmp_path / name).read_text() == (tmp_path / (name[1:] + "y") / "file").read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 2


def test_long_names_that_begin_alike_have_different_names_beside(tmp_path):
    with write_beside(tmp_path / ("a" * 250 + "1")) as one, write_beside(tmp_path / ("a" * 250 + "2")) as two:
        assert one != two
        one.touch(), two.touch()
