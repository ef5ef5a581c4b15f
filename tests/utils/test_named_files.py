"""Files that are read by name: what is not a file is refused, and none is read without end."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.helpers import ROOT
from vae_lab import load, read_video
from vae_lab.ablation.runner import read_ablation_file
from vae_lab.cli import main
from vae_lab.training.config import TrainConfig
from vae_lab.training.run_folder import read_log
from vae_lab.utils import exit_codes
from vae_lab.utils.files import read_text


@contextmanager
def odd_files(folder):
    """What is not a file, though it has a name: a pipe that nobody writes to, a socket, devices and links to them."""
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        yield [*(folder / name for name in ("pipe", "link", "socket")), "/dev/zero", "/dev/null", "/dev/random"]


READERS = {
    "text": read_text,
    "recipe": TrainConfig.from_toml,
    "ablation": read_ablation_file,
    "log": read_log,
    "video": read_video,
    "weights": load,
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that are files")
@pytest.mark.parametrize("reader", READERS)
def test_pipes_sockets_and_devices_are_refused(tmp_path, reader):
    with odd_files(tmp_path) as paths:
        for path in paths:
            with pytest.raises(
                ValueError, match=f"^{path} is neither a file nor a folder but a pipe, a socket or a dev"
            ):
                READERS[reader](path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that are files")
@pytest.mark.parametrize("command", ["train", "ablate"])
def test_commands_refuse_them_too(tmp_path, command, capsys):
    with odd_files(tmp_path) as paths:
        for path in [*paths, tmp_path]:
            assert main([command, str(path), str(tmp_path / "out")]) == exit_codes.BAD_INPUT
            assert f"vae-lab {command}: {path} " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("reader", ["text", "recipe", "ablation"])
def test_folders_other_encodings_and_endless_files_are_refused(tmp_path, reader, monkeypatch):
    with pytest.raises(ValueError, match="must be a file, it is a folder"):
        READERS[reader](tmp_path)
    with pytest.raises(FileNotFoundError):
        READERS[reader](tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes("a = 'ä'".encode("latin-1"))
    with pytest.raises(ValueError, match="latin.toml: it is not text in UTF-8"):
        READERS[reader](tmp_path / "latin.toml")
    with (tmp_path / "sparse.toml").open("wb") as file:
        file.truncate(1 << 40)  # a terabyte that takes no space
    with pytest.raises(ValueError, match="sparse.toml must hold at most 16,000,000 characters, it is longer"):
        READERS[reader](tmp_path / "sparse.toml")


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("{program} <(cat {file})", 0, "text"),
        ("cat {file} | {program} /dev/stdin", 0, "text"),
        ("{program} /dev/stdin < {file}", 0, "text"),
        ("{program} /dev/fd/3 3< {file}", 0, "text"),
        ("cat /dev/zero | {program} /dev/stdin", 1, "at most 16,000,000 characters"),
        ("{program} /dev/stdin < /dev/zero", 1, "neither a file nor a folder"),
    ],
)
def test_pipes_of_the_shell_are_read(tmp_path, line, code, said):
    (tmp_path / "file").write_text("text")
    script = "import sys; from vae_lab.utils.files import read_text; print(read_text(sys.argv[1]))"
    line = line.format(program=f"{sys.executable} -c '{script}'", file=tmp_path / "file")
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == code and said in done.stdout + done.stderr
