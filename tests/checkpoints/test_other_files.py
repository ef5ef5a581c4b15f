"""Checkpoints as other people save them: the file that is named is read, and what is unusual is said."""

import json
import os
import shutil
import warnings
from argparse import Namespace
from collections import OrderedDict
from datetime import datetime
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from safetensors.torch import load_file, save_file

from tests.checkpoints.test_loading import CHECKPOINT, SPATIAL, on_the_hub, same_weights
from tests.helpers import small_vae
from tests.helpers.families import cogvideox, hunyuan, wan
from tests.helpers.hub import serve
from vae_lab import load
from vae_lab.checkpoints import inspect
from vae_lab.checkpoints.files import choose_weights, usual_names
from vae_lab.checkpoints.names import fit_names

MODELS = {
    "VideoVAE": small_vae,
    "SpatialVAE": lambda: small_vae().spatial,
    "TemporalVAE": lambda: small_vae().temporal,
    "Wan": lambda: wan().float(),
    "CogVideoX": lambda: cogvideox().float(),
    "HunyuanVideo": lambda: hunyuan().float(),
}
USUAL = "diffusion_pytorch_model"


def save(tensors: dict, file: Path) -> None:
    (save_file if file.suffix == ".safetensors" else torch.save)(tensors, file)


def filled(tensors: dict, value: float) -> dict:
    """The same names and shapes with one number everywhere."""
    return {key: torch.full_like(tensor, value) for key, tensor in tensors.items()}


def value(vae) -> float:
    """The number that is everywhere in a model."""
    (number,) = {number for tensor in vae.state_dict().values() for number in tensor.unique().tolist()}
    return number


def load_noted(*args, **options) -> tuple:
    """What `load` returns, and its warnings; `inspect` must agree with it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vae = load(*args, **options)
    notes = tuple(str(warning.message) for warning in caught)
    options.pop("dtype", None)
    info = inspect(*args, **options)
    assert not info.differences and info.notes == notes
    numbers = sum(tensor.numel() for tensor in vae.state_dict().values())
    if info.layout != "open_sora" and "the config's are used" not in str(notes):  # shift and scale
        assert sum(info.parameters.values()) == numbers
    return vae, notes


def refused(*args, error=ValueError, **options) -> str:
    """The message with which both `load` and `inspect` refuse a checkpoint."""
    messages = []
    for read in (load, inspect):
        with pytest.raises(error) as caught:
            read(*args, **options)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    return messages[0]


@pytest.fixture
def lab_folder(tmp_path):
    """A folder with the config and the tensors of a small model; the weights are to be saved."""
    vae = small_vae()
    vae.save_config(tmp_path)
    return tmp_path, vae.state_dict()


# ---- the file that is named is read -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_each_named_file_of_a_folder_is_read(tmp_path, model):
    vae = MODELS[model]()
    vae.save_pretrained(tmp_path, max_shard_size="20KB")  # the index that diffusers prefers to every other file
    names = ["ema.safetensors", "best-2-of-3.safetensors", "a.bin", "b.pt", "c.pth", "last.ckpt", "no suffix", "x.sft"]
    names += [f"{USUAL}{suffix}" for suffix in (".safetensors", ".bin", ".ema.safetensors", ".fp16.bin")]
    for number, name in enumerate(names, 1):
        tensors = filled(vae.state_dict(), number)
        (save_file if name.endswith(("safetensors", "sft", "a.bin")) else torch.save)(tensors, tmp_path / name)
    for number, name in enumerate(names, 1):
        again, notes = load_noted(tmp_path / name)
        assert (value(again), notes, type(again)) == (number, (), type(vae))
        assert inspect(tmp_path / name).files == [str(tmp_path / name)]
    again, notes = load_noted(tmp_path)  # as from_pretrained does
    assert same_weights(again, vae) and same_weights(again, type(vae).from_pretrained(tmp_path)) and notes == ()
    index = tmp_path / f"{USUAL}.safetensors.index.json"
    assert same_weights(load_noted(index)[0], vae)
    shard = next(tmp_path.glob(f"{USUAL}-00001-of-*"))
    assert f"one of {len(inspect(index).files)} shards: name {index}, or the folder" in refused(shard)


def test_each_named_file_in_open_soras_layout_is_read(tmp_path):
    shutil.copytree(CHECKPOINT, tmp_path, dirs_exist_ok=True)
    tensors = load_file(CHECKPOINT / "model.safetensors")
    names = ["ema.safetensors", "model.fp16.safetensors", "ema.pt", "pytorch_model.bin", "last.ckpt"]
    for number, name in enumerate(names, 1):
        save(filled(tensors, number), tmp_path / name)
    for number, name in enumerate(names, 1):
        assert value(load_noted(tmp_path / name, spatial_config=SPATIAL)[0]) == number
    assert value(load_noted(tmp_path, variant="fp16", spatial_config=SPATIAL)[0]) == 2
    assert same_weights(load_noted(tmp_path, spatial_config=SPATIAL)[0], load(CHECKPOINT, spatial_config=SPATIAL))
    (tmp_path / "model.safetensors").unlink()
    assert value(load_noted(tmp_path, spatial_config=SPATIAL)[0]) == 4


def test_a_loaded_model_does_not_change_with_its_file(lab_folder):
    folder, tensors = lab_folder
    for name in ("a.safetensors", "a.ckpt"):
        save(filled(tensors, 1), folder / name)
        vae = load(folder / name)
        with (folder / name).open("r+b") as file:
            file.seek(20_000)
            file.write(bytes(100_000))
        assert value(vae) == 1
        vae.save_pretrained(folder / "again")
        assert value(load(folder / "again")) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("saved", [torch.float32, torch.float16, torch.float8_e4m3fn])
def test_dtype_and_torch_dtype_are_the_models_whatever_the_file_has(tmp_path, dtype, saved):
    vae = wan().float()
    vae.save_pretrained(tmp_path)
    save({key: tensor.to(saved) for key, tensor in vae.state_dict().items()}, tmp_path / f"{USUAL}.safetensors")
    expected = type(vae).from_pretrained(tmp_path, dtype=dtype)
    for option in ("dtype", "torch_dtype"):
        vae = load(tmp_path, **{option: dtype})
        assert same_weights(vae, expected) and vae.dtype == dtype


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("saved", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_the_dtype_auto_is_that_of_most_tensors(lab_folder, saved, suffix):
    folder, tensors = lab_folder
    exact = {"shift": tensors["shift"], "scale": tensors["scale"]}
    save({key: tensor.to(saved) for key, tensor in tensors.items()} | exact, folder / f"{USUAL}{suffix}")
    expected = torch.float32 if saved == torch.float8_e4m3fn else saved
    for option in ("dtype", "torch_dtype"):
        vae = load(folder, **{option: "auto"})
        assert vae.dtype == expected and vae.shift.dtype == torch.promote_types(expected, torch.float32)


def test_arguments_that_could_not_be_used_are_refused(lab_folder):
    folder, tensors = lab_folder
    file = folder / f"{USUAL}.safetensors"
    save(tensors, file)
    assert "revision is for the Hub" in refused(folder, revision="main")
    assert "there is no" in refused(
        folder, subfolder="vae", error=FileNotFoundError
    )  # and not the folder's own weights
    assert "variant is for folders" in refused(file, variant="fp16")
    assert "subfolder is for folders" in refused(file, subfolder="vae")
    assert "holds no weights: name its folder" in refused(folder / "config.json")
    assert 'variant must be a word such as "fp16"' in refused(folder, variant="../fp16")
    assert f'entry must be "" for {file}, got' in refused(file, entry="ema")
    with pytest.raises(ValueError, match="dtype and torch_dtype mean the same"):
        load(folder, dtype=torch.float16, torch_dtype=torch.bfloat16)
    for subfolder in (str(folder), 3, ["vae"]):
        assert "subfolder must be a relative path" in refused(folder.parent, subfolder=subfolder)
    for dtype in (torch.int8, torch.float8_e4m3fn, "float16", None):
        with pytest.raises(ValueError, match="dtype must be a floating-point dtype of torch"):
            load(folder, dtype=dtype)


# ---- variants and formats -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("variant", ["fp16", "ema", "non_ema", "bf16"])
def test_a_folder_with_one_variant_only(tmp_path, model, variant):
    vae = MODELS[model]()
    forms = product((True, False), (None, "20KB"))
    for number, (safe, shards) in enumerate(forms):
        options = dict(safe_serialization=safe, variant=variant) | (dict(max_shard_size=shards) if shards else {})
        vae.save_pretrained(folder := tmp_path / str(number), **options)
        expected = type(vae).from_pretrained(folder, variant=variant, use_safetensors=safe)
        named, notes = load_noted(folder, variant=variant)
        assert same_weights(named, expected) and same_weights(named, vae) and notes == ()
        alone, notes = load_noted(folder)
        assert same_weights(alone, vae) and f"so variant='{variant}' is read" in notes[0]


def test_of_several_variants_the_message_names_arguments_that_work(lab_folder):
    folder, tensors = lab_folder
    variants = {"fp16": 1, "ema": 2, "non_ema": 3}
    for variant, number in variants.items():
        save(filled(tensors, number), folder / f"{USUAL}.{variant}.safetensors")
    assert 'can be loaded with variant="ema" or variant="fp16" or variant="non_ema"' in refused(folder, error=OSError)
    assert f"has no {USUAL}.bf16.safetensors" in refused(folder, variant="bf16", error=OSError)
    save(filled(tensors, 0), folder / f"{USUAL}.bin")
    for variant, number in (variants | {None: 0}).items():
        assert value(load_noted(folder, variant=variant)[0]) == number
    assert "can be loaded with variant=None or" in refused(folder, variant="bf16", error=OSError)
    assert same_weights(load(folder, variant="ema"), load(folder / f"{USUAL}.ema.safetensors"))


@pytest.mark.parametrize("name", ["ema.safetensors", "weights.pt", "last.ckpt", f"{USUAL}.bin", "pytorch_model.bin"])
def test_the_only_file_of_a_folder_is_read(lab_folder, name):
    folder, tensors = lab_folder
    save(filled(tensors, 5), folder / name)
    assert value(load_noted(folder)[0]) == 5


def test_other_files_are_listed_and_each_can_be_named(lab_folder):
    folder, tensors = lab_folder
    for number, name in enumerate(("a.pt", "b.ckpt", "c.safetensors")):
        save(filled(tensors, number), folder / name)
    assert refused(folder, error=OSError).endswith("it has a.pt, b.ckpt, c.safetensors: name one")
    assert [value(load(folder / name)) for name in ("a.pt", "b.ckpt", "c.safetensors")] == [0, 1, 2]


def test_shards_without_an_index_and_an_index_without_a_shard(tmp_path):
    small_vae().save_pretrained(tmp_path, max_shard_size="40KB")
    shards = sorted(tmp_path.glob("*-of-*"))
    index = tmp_path / f"{USUAL}.safetensors.index.json"
    shards[1].rename(tmp_path / "elsewhere")
    assert shards[1].name in refused(tmp_path, error=OSError)
    index.unlink()
    assert "but no index of these shards" in refused(tmp_path, error=OSError)


def test_an_old_name_of_an_index_of_a_variant(tmp_path):
    vae = small_vae()
    vae.save_pretrained(tmp_path, max_shard_size="40KB")
    (tmp_path / f"{USUAL}.safetensors.index.json").rename(tmp_path / f"{USUAL}.safetensors.fp16.index.json")
    assert same_weights(load_noted(tmp_path, variant="fp16")[0], vae)


@pytest.mark.parametrize("layout", ["open_sora", "diffusers"])
def test_names_are_chosen_in_order(layout):
    for variant in (None, "fp16"):
        names = usual_names(layout, variant)
        for first, _ in pairwise(range(len(names))):
            assert choose_weights(names[first:], layout, variant, "x") == (names[first], "")
            if variant is None:  # an existing file without a variant is taken before all variants
                variants = usual_names(layout, "fp16")
                assert choose_weights([*variants, *names[first:]], layout, variant, "x") == (names[first], "")


# ---- prefixes and entries -------------------------------------------------------------------------------------------

PREFIXES = ["module.", "_orig_mod.", "ema.", "ema_model.", "vae.", "model.", "first_stage_model.", "state_dict."]
PREFIXES += ["module._orig_mod.", "_orig_mod.module.", "model.vae.", "a.name.of.its.owner."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("model", MODELS)
def test_a_prefix_is_stripped_and_said(tmp_path, model, prefix):
    vae = MODELS[model]()
    vae.save_config(tmp_path)
    for name in ("prefixed.safetensors", "prefixed.ckpt"):
        save({prefix + key: tensor for key, tensor in vae.state_dict().items()}, tmp_path / name)
        again, notes = load_noted(tmp_path / name)
        assert same_weights(again, vae) and len(notes) == 1
        assert notes[0].startswith("left out of the names") and all(part in notes[0] for part in prefix.split("."))


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("config", [True, False])
def test_a_prefix_in_open_soras_layout(tmp_path, monkeypatch, prefix, config):
    if config:
        shutil.copy(CHECKPOINT / "config.json", tmp_path)
    else:
        released = json.loads((CHECKPOINT / "config.json").read_text())
        monkeypatch.setattr("vae_lab.checkpoints.open_sora.RELEASED_CONFIG", released)
    tensors = {prefix + key: tensor for key, tensor in load_file(CHECKPOINT / "model.safetensors").items()}
    save(tensors, file := tmp_path / "prefixed.safetensors")
    vae, notes = load_noted(file, spatial_config=SPATIAL)
    assert same_weights(vae, load(CHECKPOINT, spatial_config=SPATIAL)) and len(notes) == 1


@pytest.mark.parametrize(
    "part", ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "module._orig_mod."]
)
def test_a_half_that_was_wrapped(lab_folder, part):
    folder, tensors = lab_folder
    wrapped = {key.replace("temporal.", f"temporal.{part}", 1): tensor for key, tensor in tensors.items()}
    save(wrapped, folder / "wrapped.safetensors")
    vae, notes = load_noted(folder / "wrapped.safetensors")
    assert same_weights(vae, small_vae()) and all(f"{name}." in notes[0] for name in part.split("."))


@pytest.mark.parametrize("part", ["_orig_mod.", "module.", "module._orig_mod."])
def test_halves_that_were_wrapped_in_open_soras_layout(tmp_path, part):
    shutil.copy(CHECKPOINT / "config.json", tmp_path)
    names = {"temporal_vae.": f"temporal_vae.{part}", "spatial_vae.module.": f"spatial_vae.{part}module."}
    for old, new in names.items():  # "module." is also a part of the layout's own names
        tensors = {key.replace(old, new): tensor for key, tensor in load_file(CHECKPOINT / "model.safetensors").items()}
        save(tensors, tmp_path / "model.safetensors")
        vae, notes = load_noted(tmp_path, spatial_config=SPATIAL)
        assert same_weights(vae, load(CHECKPOINT, spatial_config=SPATIAL))
        assert all(f"{name}." in notes[0] for name in part.split(".")) and len(notes) == 1


@pytest.mark.parametrize("layout", ["vae_lab", "open_sora"])
def test_averages_of_the_parameters_alone_take_shift_and_scale_from_the_config(tmp_path, layout):
    if layout == "open_sora":
        shutil.copy(CHECKPOINT / "config.json", tmp_path)
        tensors, options = load_file(CHECKPOINT / "model.safetensors"), dict(spatial_config=SPATIAL)
    else:
        vae, options = small_vae(latents_mean=(1, 2, 3, 4), latents_std=(5, 6, 7, 8)), {}
        vae.save_config(tmp_path)
        tensors = vae.state_dict()
    average = {key: tensor + 1 for key, tensor in tensors.items() if key not in ("shift", "scale")}
    save({"model": tensors, "ema": average, "step": 3}, tmp_path / "last.ckpt")
    assert 'entry="model" or entry="ema"' in refused(tmp_path, **options)
    (vae, notes), (raw, _) = (load_noted(tmp_path, entry=entry, **options) for entry in ("ema", "model"))
    assert "scale and shift are not in" in notes[-1]
    for name, tensor in vae.state_dict().items():
        torch.testing.assert_close(tensor, raw.state_dict()[name] + (name not in ("shift", "scale")))
    del average[min(average)]
    save(average, tmp_path / "less.pt")
    assert "3 missing keys" in str(inspect(tmp_path / "less.pt", **options).differences.describe())


@pytest.mark.parametrize(
    "extra",
    [Namespace(lr=1, folder=Path("x")), np.float64(2), np.float32(2), np.int64(2), np.bool_(True), Path("out")],
)
def test_options_and_numbers_beside_the_weights(lab_folder, extra):
    folder, tensors = lab_folder
    torch.save({"state_dict": tensors, "extra": extra}, folder / "last.ckpt")
    vae, notes = load_noted(folder)
    assert same_weights(vae, small_vae()) and notes[-1].endswith("last.ckpt: extra")


CONTAINERS = {
    "{state_dict}": lambda sd: {"state_dict": sd},
    "{model}": lambda sd: {"model": sd},
    "{module}": lambda sd: {"module": sd},
    "{ema}": lambda sd: {"ema": sd},
    "{vae, optimizer}": lambda sd: {"vae": sd, "optimizer": {"state": {0: {"exp_avg": torch.ones(9)}}}},
    "{model_state_dict, epoch}": lambda sd: {"model_state_dict": sd, "epoch": 3},
    "{state_dict: {gen_model, dics_model}}": lambda sd: {
        "state_dict": {"gen_model": sd, "dics_model": {"conv.weight": torch.ones(2, 2)}}
    },
    "{state_dict with loss}": lambda sd: {
        "state_dict": OrderedDict([*((f"vae.{k}", v) for k, v in sd.items()), ("loss.logvar", torch.zeros(3))])
    },
    "lightning": lambda sd: {
        "epoch": 1,
        "global_step": 2,
        "pytorch-lightning_version": "2.0",
        "state_dict": {f"model.{key}": tensor for key, tensor in sd.items()},
        "optimizer_states": [{"state": {}}],
        "hyper_parameters": {"lr": 1e-4},
    },
    "step beside the weights": lambda sd: {**sd, "step": 7, "epoch": torch.tensor(1), "args": {"lr": 1.0}},
    "averaged": lambda sd: {"n_averaged": torch.tensor(5), **{f"module.{key}": tensor for key, tensor in sd.items()}},
    "optimizer beside the weights": lambda sd: {**sd, "optimizer": {"exp_avg": filled(sd, 9)}},
}
SAID = {
    "{vae, optimizer}": ["optimizer"],
    "{model_state_dict, epoch}": ["epoch"],
    "{state_dict: {gen_model, dics_model}}": ["dics_model"],
    "{state_dict with loss}": ["loss"],
    "lightning": ["epoch", "global_step", "optimizer_states", "hyper_parameters"],
    "step beside the weights": ["step", "epoch", "args"],
    "averaged": ["n_averaged"],
    "optimizer beside the weights": [],
}


@pytest.mark.parametrize("model", ["VideoVAE", "TemporalVAE", "Wan", "CogVideoX"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_with_one_set_of_weights(tmp_path, model, container):
    vae = MODELS[model]()
    vae.save_config(tmp_path)
    sd = vae.state_dict()
    if container == "optimizer beside the weights":
        torch.save(CONTAINERS[container](sd), tmp_path / "last.ckpt")
        assert 'choose one with entry="" or entry="optimizer/exp_avg"' in refused(tmp_path / "last.ckpt")
        assert same_weights(load_noted(tmp_path / "last.ckpt", entry="")[0], vae)
        return
    torch.save(CONTAINERS[container](sd), tmp_path / "last.ckpt")
    again, notes = load_noted(tmp_path)
    assert same_weights(again, vae)
    assert all(name in notes[-1] for name in SAID.get(container, []))
    if container == "{state_dict}":
        assert notes == ()


def test_open_soras_layout_in_a_container(tmp_path):
    shutil.copy(CHECKPOINT / "config.json", tmp_path)
    tensors = load_file(CHECKPOINT / "model.safetensors")
    tensors["shift"], tensors["scale"] = torch.tensor(1.0), torch.tensor(2)
    torch.save({"ema": filled(tensors, 3), "model": tensors, "step": 1}, tmp_path / "last.pt")
    vae = load_noted(tmp_path, entry="model", spatial_config=SPATIAL)[0]
    assert vae.config.latents_mean == [1] * 4 and vae.config.latents_std == [2] * 4
    assert value(load_noted(tmp_path, entry="ema", spatial_config=SPATIAL)[0]) == 3


TWO = {
    "model and ema": lambda a, b: {"model": a, "ema": b},
    "state_dict and ema_state_dict": lambda a, b: {"state_dict": a, "ema_state_dict": b, "step": 1},
    "inside": lambda a, b: {"state_dict": {"model": a, "ema": b}},
    "names": lambda a, b: {f"{p}.{key}": t for p, sd in (("model", a), ("ema", b)) for key, t in sd.items()},
    "one without a prefix": lambda a, b: {**a, **{f"ema.{key}": tensor for key, tensor in b.items()}},
    "wrapped": lambda a, b: {"model": {f"module.{key}": tensor for key, tensor in a.items()}, "ema": {"module": b}},
}


@pytest.mark.parametrize("model", ["VideoVAE", "SpatialVAE", "Wan", "HunyuanVideo"])
@pytest.mark.parametrize("container", TWO)
def test_of_two_sets_of_weights_entry_names_one(tmp_path, model, container):
    vae = MODELS[model]()
    vae.save_config(tmp_path)
    sd = vae.state_dict()
    torch.save(TWO[container](filled(sd, 1), filled(sd, 2)), file := tmp_path / "both.pt")
    message = refused(file)
    assert "2 sets of weights that fit: choose one with" in message
    entries = [part.split('"')[1] for part in message.split("entry=")[1:]]
    assert [value(load_noted(file, entry=entry)[0]) for entry in entries] == [1, 2]
    if "ema_state_dict" not in entries:
        assert value(load_noted(file, entry="ema")[0]) == 2  # one part of the prefix is enough
    assert f'entry must be "{entries[0]}" or "{entries[1]}"' in refused(file, entry="other")


def test_what_does_not_fit_is_listed_by_the_names_in_the_file(tmp_path):
    vae = small_vae()
    vae.save_config(tmp_path)
    tensors = {f"model.{key}": tensor for key, tensor in vae.state_dict().items()}
    tensors["model.extra.weight"] = tensors.pop("model.temporal.encoder.conv_out.conv.bias")
    tensors["model.shift"] = torch.zeros(3)
    torch.save({"state_dict": tensors, "step": 1}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError) as error:
        load(tmp_path)
    text = str(error.value)
    assert "1 missing keys:\n  state_dict/model.temporal.encoder.conv_out.conv.bias" in text
    assert "1 unexpected keys:\n  state_dict/model.extra.weight" in text
    assert "1 wrongly shaped keys:\n  state_dict/model.shift: (3,)" in text and "not read from" in text
    assert [len(keys) for keys in inspect(tmp_path).differences] == [1, 1, 1]


def test_the_hint_at_the_2d_half_is_given_only_if_nothing_else_differs(tmp_path):
    shutil.copy(CHECKPOINT / "config.json", tmp_path)
    save({"other.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert "spatial_config sets" not in refuse_load(tmp_path)
    shutil.copy(CHECKPOINT / "model.safetensors", tmp_path)
    assert "spatial_config sets" in refuse_load(tmp_path)


def refuse_load(*args) -> str:
    with pytest.raises(ValueError) as error:
        load(*args)
    return str(error.value)


def test_old_names_of_attention_are_read_as_diffusers_reads_them(tmp_path):
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=2, latent_channels=2)
    vae.save_pretrained(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for key, tensor in vae.state_dict().items():
        for new, name in old.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{name}.")
        tensors[key] = tensor
    assert tensors.keys() != vae.state_dict().keys()
    save(tensors, tmp_path / f"{USUAL}.safetensors")
    again, _ = load_noted(tmp_path)
    assert same_weights(again, diffusers.AutoencoderKL.from_pretrained(tmp_path)) and same_weights(again, vae)


def test_scalars_that_no_model_has_are_left_out_and_tensors_are_not():
    expected = {"conv.weight": (2, 2), "conv.bias": (2,)}
    fit = fit_names("x", expected | {"step": (), "num_updates": (1,)}, [], expected)
    assert not fit.differences and fit.notes == ["not read from x: step, num_updates"]
    for name, shape in (("mean", (2,)), ("conv.scale", ())):
        assert fit_names("x", expected | {name: shape}, [], expected).differences.unexpected == [name]


@pytest.mark.filterwarnings("ignore")  # diffusers' own, about its classes
def test_prefixes_and_two_sets_with_the_names_of_every_class_of_diffusers():
    tried = 0
    for cls in (getattr(diffusers, name) for name in dir(diffusers) if name.startswith("Autoencoder")):
        try:
            with init_empty_weights():
                vae = cls()
        except (TypeError, NameError):  # needs arguments, or another library
            continue
        tried += 1
        shapes = {key: tuple(tensor.shape) for key, tensor in vae.state_dict().items()}
        options = dict(expected=shapes, rename=vae._fix_state_dict_keys_on_load)
        for prefix in ("", "module.", "first_stage_model.", "vae/model."):
            fit = fit_names("x", {prefix + key: shape for key, shape in shapes.items()}, [], **options)
            assert not fit.differences and fit.keys == {key: prefix + key for key in shapes}, cls
        both = {f"{prefix}{key}": shape for prefix in ("", "ema.") for key, shape in shapes.items()}
        with pytest.raises(ValueError, match='entry="" or entry="ema"'):
            fit_names("x", both, [], **options)
        for entry, prefix in (("", ""), ("ema", "ema.")):
            fit = fit_names("x", both, [], entry=entry, **options)
            assert not fit.differences and fit.keys == {key: prefix + key for key in shapes}, cls
    assert tried > 20


# ---- what is refused ------------------------------------------------------------------------------------------------


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("extra", [datetime.now(), Fraction(1), RunsCode(), torch.nn.Linear(1, 1)])
def test_a_pickle_with_objects_is_refused_and_the_way_out_works(lab_folder, monkeypatch, extra):
    folder, tensors = lab_folder
    monkeypatch.chdir(folder)
    torch.save({"state_dict": tensors, "args": extra}, folder / "last.ckpt")
    message = refused(folder / "last.ckpt")
    assert not (folder / "pwned").exists()
    assert "more than tensors" in message and "If you trust its author" in message
    command = message[message.index("torch.save(") :]
    exec(command, {"torch": torch, "file": folder / "last.ckpt"})
    assert same_weights(load(folder / "weights.pt"), small_vae())


def test_a_pickle_that_contains_itself_or_far_too_much(lab_folder):
    folder, _ = lab_folder
    loop: dict = {"weight": torch.zeros(2)}
    loop["again"] = loop
    torch.save(loop, folder / "loop.pt")
    assert "missing keys" in refuse_load(folder / "loop.pt")
    level: dict = {"weight": torch.zeros(1)}
    for _ in range(4):
        level = {str(number): level for number in range(200)}
    torch.save(level, folder / "much.pt")
    assert "must hold a state dict" in refused(folder / "much.pt")


def test_files_that_are_no_weights(lab_folder):
    folder, tensors = lab_folder
    save(tensors, folder / f"{USUAL}.safetensors")
    os.mkfifo(folder / "pipe.safetensors")
    assert "neither a file nor a folder" in refused(folder / "pipe.safetensors")
    assert "neither a file nor a folder" in refused("/dev/zero")
    (folder / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in refused(folder / "lfs.safetensors")
    torch.save({"epoch": 1}, folder / "none.pt")
    assert "must hold a state dict" in refused(folder / "none.pt")
    save({key: tensor.to(torch.int8) for key, tensor in tensors.items()}, folder / "int8.safetensors")
    assert "must hold floating-point numbers, got torch.int8" in refuse_load(folder / "int8.safetensors")


# ---- the Hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Repositories with one variant, several, only .bin, shards, a whole pipeline, and files of other names."""
    root = tmp_path_factory.mktemp("hub")
    vae = small_vae()
    vae.save_pretrained(root / "a" / "fp16", variant="fp16")
    vae.save_pretrained(root / "a" / "bin", safe_serialization=False)
    vae.save_pretrained(root / "a" / "shards", variant="ema", max_shard_size="100KB")
    vae.save_config(root / "a" / "many")
    for number, name in enumerate(("ema.safetensors", "b/both.pt", f"{USUAL}.fp16.safetensors", f"{USUAL}.ema.bin")):
        (root / "a" / "many" / "b").mkdir(exist_ok=True)
        both = {"model": filled(vae.state_dict(), 7), "ema": filled(vae.state_dict(), 8)}
        save(both if number == 1 else filled(vae.state_dict(), number), root / "a" / "many" / name)
    vae.save_config(root / "a" / "many" / "b")
    wan().save_pretrained(root / "a" / "pipeline" / "vae", variant="fp16")
    (root / "a" / "pipeline" / "model_index.json").write_text("{}")
    shutil.copytree(CHECKPOINT, root / "a" / "sora" / "x")
    with serve(root) as server:
        yield server


VALUE = "import sys; show = lambda vae: print(type(vae).__name__, vae.state_dict()['shift'].flatten()[0].item())\n"


@pytest.mark.parametrize("lists", [True, False])
def test_hub_variants_formats_and_named_files(hub, tmp_path, monkeypatch, lists):
    monkeypatch.setattr(hub, "lists", lists)
    calls = {
        "load('a/fp16')": "VideoVAE",
        "load('a/fp16', variant='fp16', torch_dtype=__import__('torch').bfloat16)": "VideoVAE",
        "load('a/bin')": "VideoVAE",
        "load('a/shards', variant='ema')": "VideoVAE",
        "load('a/many', variant='fp16')": "VideoVAE 2.0",
        "load('a/many', variant='ema')": "VideoVAE 3.0",
        "load('a/many/ema.safetensors')": "VideoVAE 0.0",
        "load('a/many/b/both.pt', entry='ema')": "VideoVAE 8.0",
        "load('a/many/both.pt', subfolder='b', entry='model')": "VideoVAE 7.0",
        f"load('a/shards/{USUAL}.safetensors.index.ema.json')": "VideoVAE",
    }
    code = VALUE + "\n".join(f"show({call})" for call in calls)
    code += "\nprint(type(load('a/pipeline', subfolder='vae')).__name__)"
    result = on_the_hub(hub, tmp_path / "home", code)
    lines = result.stdout.splitlines()
    assert len(lines) == len(calls) + 1, result.stderr
    assert all(line.startswith(expected) for line, expected in zip(lines, [*calls.values(), "Auto"], strict=True)), (
        lines
    )
    assert "so variant='fp16' is read" in result.stderr
    if not lists:
        return
    offline = code.replace("load(", "load(local_files_only=True, source=")
    again = on_the_hub(hub, tmp_path / "home", offline, HF_HUB_OFFLINE="1")
    assert again.stdout == result.stdout, again.stderr


def test_hub_messages_and_inspect(hub, tmp_path):
    calls = ["load('a/many')", "load('a/pipeline')", "load('a/many', variant='bf16')", "load('a/many/nothing.bin')"]
    shard = next(file.name for file in (hub.root / "a" / "shards").glob("*-00001-of-*"))
    calls += [f"load('a/shards/{shard}')"]
    code = "\n".join(f"try: {call}\nexcept Exception as error: print(error)" for call in calls)
    sources = ["'a/fp16'", "'a/shards', variant='ema'", "'a/bin'", "'a/many/ema.safetensors'"]
    code += "".join(f"\ninfo = inspect({source}); print(info.files, bool(info.differences))" for source in sources)
    result = on_the_hub(hub, tmp_path / "home", code)
    many, pipeline, bf16, nothing, one, *found = result.stdout.splitlines()
    assert 'variant="ema" or variant="fp16"; it has ema.safetensors: name one' in many
    assert 'name its VAE with subfolder="vae"' in pipeline
    assert f"a/many has no {USUAL}.bf16.safetensors" in bf16 and "a/many has no nothing.bin" in nothing
    assert "shards: name" in one, result.stderr
    assert len(found) == 4 and all(line.endswith("False") for line in found), result.stdout + result.stderr
