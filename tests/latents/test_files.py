import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vae_lab.latents.files import read_latents, write_latents

Z = torch.randn(1, 4, 3, 2, 5, generator=torch.Generator().manual_seed(0))
every_kind = pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".npy", ".npz"])


def save(path, tensors):
    """Tensors by their names, in the format of the suffix; one without a name under None."""
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    elif path.suffix == ".pt":
        torch.save(tensors.get(None, tensors), path)
    elif path.suffix == ".npy":
        np.save(path, tensors[None].numpy())
    else:
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
    return path


@every_kind
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_is_written_is_read(tmp_path, suffix, dtype):
    z = Z.to(dtype)
    write_latents(tmp_path / f"z{suffix}", z)
    read = read_latents(str(tmp_path / f"z{suffix}"))
    assert read.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(read, z.to(read.dtype))


@every_kind
def test_a_view_is_written_alone(tmp_path, suffix):
    path = tmp_path / f"z{suffix}"
    for view in (torch.cat([Z] * 1000)[:1], torch.cat([Z] * 1000, dim=2)[:, :, :3].transpose(3, 4)):
        write_latents(path, view)
        assert torch.equal(read_latents(path), view)
        assert path.stat().st_size < 4000


@pytest.mark.parametrize(
    ("suffix", "name"), [(".safetensors", "a"), (".pt", "a"), (".pt", None), (".npy", None), (".npz", "a")]
)
def test_one_clip_without_the_first_axis(tmp_path, suffix, name):
    path = save(tmp_path / f"z{suffix}", {name: Z[0].clone()})
    assert torch.equal(read_latents(path), Z)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".npz"])
def test_of_several_tensors_one_is_named(tmp_path, suffix):
    path = save(tmp_path / f"z{suffix}", {"mine": Z, "other": Z + 1})
    assert torch.equal(read_latents(path, "other"), Z + 1)
    with pytest.raises(ValueError, match=rf"z{suffix} holds 2 tensors, key must be one of their names: mine, other"):
        read_latents(path)
    with pytest.raises(ValueError, match="holds no tensor 'his'; key must be one of: mine, other"):
        read_latents(path, "his")


def test_a_tensor_without_a_name_has_no_key(tmp_path):
    with pytest.raises(ValueError, match=r"z.npy holds one tensor without a name, so key must be None, got 'a'"):
        read_latents(save(tmp_path / "z.npy", {None: Z}), "a")


def test_big_endian_arrays_are_read(tmp_path):
    np.save(tmp_path / "z.npy", Z.numpy().astype(">f4"))
    assert torch.equal(read_latents(tmp_path / "z.npy"), Z)


@every_kind
def test_truncated_and_empty_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"z{suffix}"
    write_latents(path, Z)
    whole = path.read_bytes()
    for size in (0, 5, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=rf"z{suffix} cannot be read as {suffix}; it may be cut off"):
            read_latents(path)


class Trap:
    def __reduce__(self):
        return (print, ("run",))


def test_no_code_in_a_file_is_run(tmp_path, capsys):
    torch.save(Trap(), tmp_path / "z.pt")
    np.save(tmp_path / "z.npy", np.array([Trap()]), allow_pickle=True)
    for name in ("z.pt", "z.npy"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            read_latents(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_bad_content_is_refused_with_the_file_and_the_reason(tmp_path):
    bad = Z.clone()
    bad[0, 3, 2, 1, 4] = float("nan")
    for z, message in (
        (Z[0, 0], r"z.npy must hold \(1, C, L, h, w\) or \(C, L, h, w\), got shape \(3, 2, 5\)"),
        (torch.cat([Z, Z]), r"z.npy must be \(1, C, L, h, w\), the latents of one clip, got shape \(2, 4, 3, 2, 5\)"),
        (Z.long(), "z.npy must be floating point, got torch.int64"),
        (Z[:, :, :0], r"z.npy must not be empty, got shape \(1, 4, 0, 2, 5\)"),
        (
            bad,
            "z.npy must be finite, got 1 of 120 values NaN or infinite, the first in channel 3, latent frame 2, row 1",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            read_latents(save(tmp_path / "z.npy", {None: z}))
    np.save(tmp_path / "z.npy", np.array(["a"]))
    with pytest.raises(ValueError, match="z.npy must hold numbers of at most 64 bits, got <U1"):
        read_latents(tmp_path / "z.npy")
    torch.save({"a": "text"}, tmp_path / "z.pt")
    with pytest.raises(ValueError, match="z.pt must hold a tensor, got str"):
        read_latents(tmp_path / "z.pt")
    torch.save(Z.to_sparse(), tmp_path / "z.pt")
    with pytest.raises(ValueError, match="z.pt must hold a dense tensor, got torch.sparse_coo"):
        read_latents(tmp_path / "z.pt")
    torch.save({}, tmp_path / "z.pt")
    with pytest.raises(ValueError, match="z.pt holds 0 tensors, key must be one of their names: none"):
        read_latents(tmp_path / "z.pt")


def test_paths_that_cannot_be_latents(tmp_path):
    with pytest.raises(FileNotFoundError, match="z.npy is not a file"):
        read_latents(tmp_path / "z.npy")
    with pytest.raises(ValueError, match=r"z.mp4 must end in .safetensors, .pt, .npy, .npz"):
        read_latents(tmp_path / "z.mp4")


def test_nothing_is_written_of_what_would_not_be_read(tmp_path):
    for z, message in (
        (Z[0], r"z must be \(1, C, L, h, w\), the latents of one clip, got shape"),
        (Z * float("inf"), "z must be finite, got 120 of 120"),
        (Z.numpy(), r"z must be a tensor \(1, C, L, h, w\), got ndarray"),
    ):
        with pytest.raises(ValueError, match=message):
            write_latents(tmp_path / "z.pt", z)
    with pytest.raises(ValueError, match="must end in"):
        write_latents(tmp_path / "z.txt", Z)
    assert list(tmp_path.iterdir()) == []


def npy(path, header: bytes):
    """A .npy file of version 1 with this header and a few numbers."""
    header = header.ljust(118) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))


def test_every_damage_is_said_with_the_file(tmp_path):
    path, cut = tmp_path / "z.npy", "z.npy cannot be read as .npy; it may be cut off or damaged: "
    npy(path, b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4, 5, 100000000, 1000000), }")
    with pytest.raises(ValueError, match=cut):
        read_latents(path)
    npy(path, b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4, 99999999999999999999999), }")
    with pytest.raises(ValueError, match=cut + "it says that it holds more than fits in memory"):
        read_latents(path)
    npy(path, b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4, ")
    with pytest.raises(ValueError, match=cut):
        read_latents(path)
    np.savez_compressed(tmp_path / "z.npz", latents=Z.numpy())
    whole = bytearray((tmp_path / "z.npz").read_bytes())
    whole[150:200] = bytes(50)
    (tmp_path / "z.npz").write_bytes(whole)
    with pytest.raises(ValueError, match="z.npz cannot be read as .npz; it may be cut off or damaged: "):
        read_latents(tmp_path / "z.npz")
    torch.save(Z, tmp_path / "z.pt", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "z.pt").read_bytes()
    for size in range(0, len(whole), 7):
        (tmp_path / "z.pt").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="z.pt cannot be read as .pt") as refused:
            read_latents(tmp_path / "z.pt")
        assert "weights_only" not in str(refused.value)


def test_objects_are_refused_in_our_own_words(tmp_path):
    torch.save({"latents": Z, "trap": Trap()}, tmp_path / "z.pt")
    np.save(tmp_path / "z.npy", np.array([Trap()]), allow_pickle=True)
    for name in ("z.pt", "z.npy"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as .*: it holds other Python objects") as refused:
            read_latents(tmp_path / name)
        assert "weights_only" not in str(refused.value) and "pickle" not in str(refused.value)
    np.savez(tmp_path / "z.npz", latents=Z.numpy(), other=np.array([None]))  # which is not looked at
    assert torch.equal(read_latents(tmp_path / "z.npz", "latents"), Z)
    with pytest.raises(ValueError, match="z.npz cannot be read as .npz: it holds other Python objects"):
        read_latents(tmp_path / "z.npz", "other")


def test_types_that_cannot_be_are_refused_by_name(tmp_path):
    np.save(tmp_path / "z.npy", Z.numpy().astype(np.longdouble))
    with pytest.raises(ValueError, match="z.npy must hold numbers of at most 64 bits, got float128"):
        read_latents(tmp_path / "z.npy")
    torch.save(Z.to("meta"), tmp_path / "z.pt")
    with pytest.raises(ValueError, match="z.pt must be a dense tensor with values, got a meta tensor"):
        read_latents(tmp_path / "z.pt")
    with pytest.raises(ValueError, match=r"key must be text, got \['b'\]"):
        read_latents(tmp_path / "z.pt", ["b"])
    for suffix in (".npy", ".npz"):
        with pytest.raises(ValueError, match=f"z must be float16, .* or float64 in {suffix}, got torch.float8_e5m2"):
            write_latents(tmp_path / f"new{suffix}", Z.to(torch.float8_e5m2))
        assert not (tmp_path / f"new{suffix}").exists()
