import json
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers import GOLDEN, SMALL_SPATIAL, processes, small_vae
from tests.helpers.families import wan
from tests.helpers.hub import serve
from vae_lab import SpatialVAE, TemporalVAE, VideoVAE, load
from vae_lab.checkpoints.loading import inspect
from vae_lab.checkpoints.open_sora import expected_shapes, to_config, to_open_sora_key

CHECKPOINT, SPATIAL = GOLDEN / "checkpoint", GOLDEN / "spatial"


def copy_checkpoint(folder: Path, change=lambda tensors: None, **config) -> Path:
    """The golden checkpoint in `folder`, with tensors and config changed."""
    folder.mkdir(parents=True)
    tensors = load_file(CHECKPOINT / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    values = json.loads((CHECKPOINT / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | config))
    return folder


def same_weights(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ---- Open-Sora's layout --------------------------------------------------------------------------------------------


def released_temporal_keys(
    levels: int, blocks: int, downsample: tuple[bool, ...], changes_width: list[int]
) -> set[str]:
    """The keys as `facts` list them, written down here a second time and another way."""
    keys = {f"{side}quant_conv.conv.{p}" for side in ("", "post_") for p in ("weight", "bias")}
    keys |= {"encoder.conv_in.conv.weight"}
    for name in ("encoder.norm1", "encoder.conv2.conv", "decoder.conv1.conv", "decoder.norm1", "decoder.conv_out.conv"):
        keys |= {f"{name}.weight", f"{name}.bias"}
    resnet = {"norm1.weight", "norm1.bias", "conv1.conv.weight", "norm2.weight", "norm2.bias", "conv2.conv.weight"}
    for side in ("encoder", "decoder"):
        keys |= {f"{side}.res_blocks.{j}.{p}" for j in range(blocks) for p in resnet}
        keys |= {f"{side}.block_res_blocks.{i}.{j}.{p}" for i in range(levels) for j in range(blocks) for p in resnet}
        for i, down in enumerate(downsample):
            keys |= {f"{side}.conv_blocks.{i}.conv.{p}" for p in ("weight", "bias") if down}
    keys |= {f"encoder.block_res_blocks.{i}.0.conv3.conv.weight" for i in changes_width}
    keys |= {f"decoder.block_res_blocks.{i - 1}.0.conv3.conv.weight" for i in changes_width}
    return {f"temporal_vae.{key}" for key in keys}


def test_full_size_has_the_released_key_set():
    with torch.device("meta"):
        vae = VideoVAE()
    keys = set(expected_shapes(vae))
    temporal = released_temporal_keys(4, 4, (False, True, True), changes_width=[1, 3])
    spatial = {f"spatial_vae.module.{key}" for key in vae.spatial.autoencoder.state_dict()}
    assert keys == temporal | spatial | {"shift", "scale"}
    assert len(spatial) == 248  # SDXL's VAE


def test_golden_checkpoint_has_the_expected_keys(golden_vae):
    tensors = load_file(CHECKPOINT / "model.safetensors")
    assert expected_shapes(golden_vae) == {key: tuple(value.shape) for key, value in tensors.items()}
    temporal = released_temporal_keys(4, 1, (False, True, True), changes_width=[3])
    assert {key for key in tensors if key.startswith("temporal_vae.")} == temporal
    with pytest.raises(KeyError, match="temporal.other"):
        to_open_sora_key("temporal.other", 4)


def test_folder_file_pickle_and_dict_give_the_same_model(tmp_path, golden_vae):
    spatial_config = json.loads((SPATIAL / "config.json").read_text())
    assert same_weights(load(CHECKPOINT / "model.safetensors", spatial_config=spatial_config), golden_vae)
    for name, wrap in (("model.pt", dict), ("other.pth", lambda tensors: {"state_dict": tensors})):
        folder = tmp_path / name
        shutil.copytree(CHECKPOINT, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        torch.save(wrap(load_file(CHECKPOINT / "model.safetensors")), folder / name)
        assert same_weights(load(folder, spatial_config=SPATIAL), golden_vae)
        assert same_weights(load(folder / name, spatial_config=SPATIAL), golden_vae)
        assert not inspect(folder, spatial_config=SPATIAL).differences


def test_the_factor_between_the_halves_stays_the_reference_one(golden_vae):
    assert golden_vae.spatial.config.scaling_factor == 0.18215
    config = json.loads((SPATIAL / "config.json").read_text()) | {"scaling_factor": 0.13025}
    assert load(CHECKPOINT, spatial_config=config).spatial.config.scaling_factor == 0.18215


def test_shift_and_scale_come_from_the_file(tmp_path):
    def change(tensors):
        tensors["shift"] = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1, 1)
        tensors["scale"] = torch.tensor(2.0)  # the reference also takes one number for all channels

    vae = load(copy_checkpoint(tmp_path / "c", change, scale=2.0), spatial_config=SPATIAL)
    assert vae.shift.flatten().tolist() == vae.config.latents_mean == [1, 2, 3, 4]
    assert vae.scale.flatten().tolist() == vae.config.latents_std == [2, 2, 2, 2]


@pytest.mark.parametrize("micro_frame_size", [None, 5, 8])
def test_micro_frame_size_is_the_configs(tmp_path, micro_frame_size):
    folder = copy_checkpoint(tmp_path / "c", micro_frame_size=micro_frame_size)
    vae = load(folder, spatial_config=SPATIAL)
    assert vae.config.micro_frame_size == micro_frame_size
    expected = {None: 5, 5: 2 * 3 + 1, 8: 2 * 2 + 1}[micro_frame_size]
    assert vae.latent_size((17, 16, 16)) == (expected, 2, 2)


def test_config_of_the_released_file():
    config = to_config({"vae_temporal": {"type": "VAE_Temporal_SD", "from_pretrained": None}, "micro_frame_size": 17})
    assert config["temporal_config"] == {"temporal_downsample": (False, True, True)}
    assert to_config({"vae_temporal": {"type": "VAE_Temporal"}})["temporal_config"]["temporal_downsample"] == (
        True,
        True,
        False,
    )
    assert to_config({"vae_temporal": {"activation_fn": "swish"}})["temporal_config"]["act_fn"] == "silu"


@pytest.mark.parametrize(
    ("temporal", "message"),
    [
        ({"type": "VAE_Other"}, "vae_temporal type must be one of VAE_Temporal_SD, VAE_Temporal, got 'VAE_Other'"),
        ({"depth": 3}, "arguments the lab does not know: depth"),
        ({"embed_dim": 8}, r"embed_dim \(8\) must equal latent_embed_dim \(4\)"),
    ],
)
def test_config_that_is_not_understood(temporal, message):
    with pytest.raises(ValueError, match=message):
        to_config({"vae_temporal": temporal})


def test_keys_that_differ_are_listed(tmp_path):
    def change(tensors):
        del tensors["temporal_vae.encoder.conv_in.conv.weight"]
        tensors["temporal_vae.extra"] = torch.zeros(1)
        tensors["temporal_vae.decoder.norm1.bias"] = torch.zeros(5)

    folder = copy_checkpoint(tmp_path / "c", change)
    with pytest.raises(ValueError) as error:
        load(folder, spatial_config=SPATIAL)
    assert "1 missing keys:\n  temporal_vae.encoder.conv_in.conv.weight" in str(error.value)
    assert "1 unexpected keys:\n  temporal_vae.extra" in str(error.value)
    assert "temporal_vae.decoder.norm1.bias: (5,), the model has (8,)" in str(error.value)
    differences = inspect(folder, spatial_config=SPATIAL).differences
    assert [len(keys) for keys in differences] == [1, 1, 1]


def test_a_wrong_2d_architecture_says_what_sets_it():
    with pytest.raises(ValueError, match=r"spatial_config sets its 2D half(.|\n)*… and \d+ more"):
        load(CHECKPOINT)


def test_the_other_order_of_downsampling_is_refused(tmp_path):
    config = json.loads((CHECKPOINT / "config.json").read_text())
    temporal = config["vae_temporal"] | {"temporal_downsample": [True, True, False]}
    folder = copy_checkpoint(tmp_path / "c", vae_temporal=temporal)
    with pytest.raises(ValueError, match=r"missing keys:\n  temporal_vae.decoder.conv_blocks.0.conv.bias"):
        load(folder, spatial_config=SPATIAL)


def test_a_file_without_config_is_held_against_the_released_architecture(tmp_path):
    shutil.copy(CHECKPOINT / "model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"temporal_vae\.decoder.*the model has \(512"):
        load(tmp_path / "model.safetensors", spatial_config=SPATIAL)


# ---- our own and diffusers' ----------------------------------------------------------------------------------------


def test_our_own_folders(tmp_path):
    vae = small_vae(temporal=dict(norm="frame_group"))
    for name, part, cls in (("v", vae, VideoVAE), ("s", vae.spatial, SpatialVAE), ("t", vae.temporal, TemporalVAE)):
        part.save_pretrained(tmp_path / name)
        again = load(tmp_path / name)
        assert type(again) is cls
        assert not again.training
        assert same_weights(again, part)
        info = inspect(tmp_path / name)
        assert info.layout == "vae_lab"
        assert not info.differences
        assert sum(info.parameters.values()) == sum(p.numel() for p in part.state_dict().values())
    assert same_weights(load(tmp_path / "v" / "diffusion_pytorch_model.safetensors"), vae)
    assert load(tmp_path / "v", dtype=torch.float64).shift.dtype == torch.float64


@pytest.mark.parametrize("name", ["best.safetensors", "best.pt"])
def test_a_named_file_is_loaded_and_not_the_usual_one_beside_it(tmp_path, name):
    usual, best = small_vae(), small_vae()
    for parameter in best.parameters():
        parameter.data.fill_(0.5)
    usual.save_pretrained(tmp_path)
    save = save_file if name.endswith(".safetensors") else torch.save
    save(best.state_dict(), tmp_path / name)
    assert same_weights(load(tmp_path / name), best) and same_weights(load(tmp_path), usual)
    assert load(tmp_path / name, dtype=torch.float64).scale.dtype == torch.float64
    save({"other": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(ValueError, match="does not fit its architecture\n.*missing keys"):
        load(tmp_path / name)


def test_sharded_folder(tmp_path):
    vae = small_vae()
    vae.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert same_weights(load(tmp_path), vae)
    assert not inspect(tmp_path).differences


def test_our_own_folder_with_other_keys(tmp_path):
    small_vae().save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["extra"] = tensors.pop("temporal.encoder.conv_out.conv.bias")
    save_file(tensors, file)
    with pytest.raises(
        ValueError, match=r"1 missing keys:\n  temporal.encoder.conv_out.conv.bias\n1 unexpected keys:\n  extra"
    ):
        load(tmp_path)


def test_diffusers_video_vae(tmp_path):
    vae = wan().float()
    vae.save_pretrained(tmp_path / "pipeline" / "vae")
    assert same_weights(load(tmp_path / "pipeline" / "vae"), vae)
    info = inspect(tmp_path / "pipeline", subfolder="vae")
    assert (info.layout, info.class_name) == ("diffusers", "AutoencoderKLWan")
    assert not info.differences
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match='a whole pipeline: name its VAE with subfolder="vae"'):
        load(tmp_path / "pipeline")


def test_diffusers_video_vae_with_missing_and_wrong_keys(tmp_path):
    wan().float().save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    removed = tensors.pop("quant_conv.bias")
    tensors["post_quant_conv.bias"] = torch.zeros(len(removed) + 3)
    save_file(tensors, file)
    with pytest.raises(
        ValueError, match=r"1 missing keys:\n  quant_conv.bias\n1 wrongly shaped keys:\n  post_quant_conv.bias"
    ):
        load(tmp_path)


# ---- what is refused -----------------------------------------------------------------------------------------------


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("kind", ["torch", "plain"])
def test_a_pickle_with_code_in_it_never_runs(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "model.pt"
    if kind == "torch":
        torch.save({"temporal_vae.x": RunsCode()}, file)
    else:
        file.write_bytes(pickle.dumps(RunsCode(), protocol=2))
    (tmp_path / "config.json").write_text('{"model_type": "VideoAutoencoderPipeline"}')
    for read in (load, inspect):
        with pytest.raises(ValueError, match="model.pt is refused, it is broken or holds more than tensors"):
            read(file)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("length", [0, 5, 1000, 400_000])
def test_a_cut_off_safetensors_file(tmp_path, length):
    folder = copy_checkpoint(tmp_path / "c")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    for read in (load, inspect):
        with pytest.raises(ValueError, match="model.safetensors is not a whole safetensors file"):
            read(folder, spatial_config=SPATIAL)


@pytest.mark.parametrize("name", ["notes.txt", "clip.mp4", "model.pt"])
def test_a_file_of_another_kind_is_called_that(tmp_path, name):
    (tmp_path / name).write_bytes(b"hello, this is a text")
    for read in (load, inspect):
        with pytest.raises(ValueError, match=f"{name} is neither a safetensors file nor a torch file$"):
            read(tmp_path / name)


def test_what_is_no_checkpoint(tmp_path):
    for source in (
        tmp_path / "nothing",
        "nothing",
        "a/b/c",
        "./a",
        "vae_lab/a/b.safetensors",
        "tests/a.safetensors/b.pt",
    ):
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):
            load(source)
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        load(tmp_path)
    for text, message in (
        ("{}", "config.json is of no known layout"),
        ('{"_class_name": "UNet2DModel"}', "config.json is of no known layout .*UNet2DModel"),
        ("not json", "is not readable JSON"),
        ("[]", "must hold a JSON object, got list"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "VideoAutoencoderPipeline"}')
    with pytest.raises(FileNotFoundError, match="has no model.safetensors"):
        load(tmp_path)
    for name in ("a.pt", "b.pt"):
        torch.save({}, tmp_path / name)
    with pytest.raises(FileNotFoundError, match="it has a.pt, b.pt: name one"):
        load(tmp_path)
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(ValueError, match="must hold a state dict"):
        load(tmp_path / "a.pt")


def test_spatial_config_only_where_it_means_something(tmp_path):
    small_vae().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="spatial_config is for Open-Sora's layout, .* is in vae_lab's"):
        load(tmp_path, spatial_config=SMALL_SPATIAL)
    with pytest.raises(ValueError, match="down_block_types must be DownEncoderBlock2D throughout"):
        load(CHECKPOINT, spatial_config={"down_block_types": ["Other"]})


@pytest.mark.parametrize(
    ("layout", "values"),
    [
        ("open_sora", {"vae_temporal": [1]}),
        ("open_sora", {"vae_2d": "x"}),
        ("open_sora", {"scale": None}),
        ("open_sora", {"vae_temporal": {"channel_multipliers": 3}}),
        ("open_sora", {"vae_temporal": {"temporal_downsample": None}}),
        ("open_sora", {"vae_temporal": {"type": []}}),
        ("vae_lab", {"latents_mean": 3}),
        ("vae_lab", {"latents_std": [1, 1, 0, 1]}),
        ("vae_lab", {"spatial_config": [1]}),
        ("vae_lab", {"spatial_config": {"nothing": 1}}),
        ("vae_lab", {"spatial_config": {"block_out_channels": 8}}),
        ("vae_lab", {"_class_name": []}),
    ],
)
def test_a_config_that_makes_no_model_is_a_value_error(tmp_path, layout, values):
    if layout == "open_sora":
        folder = copy_checkpoint(tmp_path / "c", **values)
    else:
        small_vae().save_pretrained(folder := tmp_path / "c")
        config = json.loads((folder / "config.json").read_text()) | values
        (folder / "config.json").write_text(json.dumps(config))
    for read in (load, inspect):
        with pytest.raises(ValueError, match=r"makes no model|of no known layout|must (be|have)"):
            read(folder)


@pytest.mark.parametrize("weight_map", [None, [], {}, {"a": 1}, {"a": ".."}, {"a": "../x.safetensors"}, {"a": "x.bin"}])
def test_an_index_that_names_other_places(tmp_path, weight_map):
    small_vae().save_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ValueError, match="must have a weight_map|must name files beside it"):
        load(tmp_path)


def test_sources_that_are_no_name():
    for source in (None, 3, ""):
        with pytest.raises(ValueError, match="source must be a str or a Path, got"):
            load(source)


def test_dtype_changes_the_weights_and_not_the_config():
    vae = load(CHECKPOINT, spatial_config=SPATIAL, dtype=torch.bfloat16)
    assert vae.dtype == torch.bfloat16 and vae.scale.dtype == torch.float32
    assert vae.config.latents_std == pytest.approx([3.85, 2.32, 2.33, 3.06], abs=1e-6)


# ---- the Hub -------------------------------------------------------------------------------------------------------


def on_the_hub(hub, home: Path, code: str, **environment) -> subprocess.CompletedProcess:
    """Run Python against a hub with an empty cache in `home`, as a user would: the endpoint is read at import."""
    home.mkdir(exist_ok=True)
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"} | environment
    return processes.python(
        f"from vae_lab import load\nfrom vae_lab.checkpoints import inspect\n{code}", environment, home
    )


def asked(hub) -> list[str]:
    """Files of repositories that were fetched. (huggingface_hub also asks its endpoint for lists of its own.)"""
    return [path for method, path in hub.requests if method == "GET" and "/resolve/" in path]


LOAD = f"vae = load('hpcai-tech/vae', spatial_config={str(SPATIAL)!r}); print('loaded', vae.config.micro_frame_size)"


@pytest.fixture
def hub(tmp_path):
    copy_checkpoint(tmp_path / "hub" / "hpcai-tech" / "vae")
    wan().float().save_pretrained(tmp_path / "hub" / "wan" / "pipeline" / "vae")
    with serve(tmp_path / "hub") as server:
        yield server


def test_hub_download_and_local_files_only(hub, tmp_path):
    offline = LOAD.replace("load(", "load(local_files_only=True, source=")
    missing = on_the_hub(hub, tmp_path / "home", offline)
    assert "config.json of hpcai-tech/vae is not in the local cache" in missing.stderr
    assert asked(hub) == []
    first = on_the_hub(hub, tmp_path / "home", LOAD)
    assert "loaded 17" in first.stdout, first.stderr
    fetched = {path.rsplit("/", 1)[1] for path in asked(hub)}
    assert fetched == {"config.json", "model.safetensors"}  # the 2D half is in the file: nothing else is asked for
    hub.requests.clear()
    again = on_the_hub(hub, tmp_path / "home", offline)
    assert "loaded 17" in again.stdout, again.stderr
    assert asked(hub) == []


def test_hub_subfolder_of_a_diffusers_pipeline(hub, tmp_path):
    code = "print(type(load('wan/pipeline', subfolder='vae')).__name__)"
    result = on_the_hub(hub, tmp_path / "home", code)
    assert result.stdout.strip() == "AutoencoderKLWan", result.stderr


def test_hub_inspect_reads_only_headers(hub, tmp_path):
    code = f"print(inspect('hpcai-tech/vae', spatial_config={str(SPATIAL)!r}).parameters)"
    result = on_the_hub(hub, tmp_path / "home", code)
    assert "'temporal_vae': 99560" in result.stdout, result.stderr
    assert hub.sent < 110_000  # of 528,404 bytes: huggingface_hub asks for the first 100,000
    code = "info = inspect('wan/pipeline', subfolder='vae'); print(info.files, info.differences.describe())"
    result = on_the_hub(hub, tmp_path / "home", code)
    assert result.stdout.strip() == "['diffusion_pytorch_model.safetensors']", result.stderr


def test_hub_download_cut_off_half_way(hub, tmp_path):
    hub.cuts = 1_000
    broken = on_the_hub(hub, tmp_path / "home", LOAD)
    assert broken.returncode != 0
    assert "OSError: cannot download model.safetensors of hpcai-tech/vae" in broken.stderr
    hub.cuts = 0
    hub.requests.clear()
    again = on_the_hub(hub, tmp_path / "home", LOAD)
    assert "loaded 17" in again.stdout, again.stderr


def test_hub_download_cut_off_once_is_taken_up_again(hub, tmp_path):
    hub.cuts = 1
    result = on_the_hub(hub, tmp_path / "home", LOAD)
    assert "loaded 17" in result.stdout, result.stderr
    assert [path.endswith(".safetensors") for path in asked(hub)] == [False, True, True]


def test_hub_without_the_repository_or_the_file(hub, tmp_path):
    result = on_the_hub(hub, tmp_path / "home", "load('nobody/nothing')")
    assert "FileNotFoundError: no checkpoint nobody/nothing: neither a folder or file here nor" in result.stderr
    (hub.root / "hpcai-tech" / "vae" / "model.safetensors").unlink()
    result = on_the_hub(hub, tmp_path / "home", LOAD)
    assert "FileNotFoundError: hpcai-tech/vae has no model.safetensors" in result.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that are files")
def test_a_pipe_beside_a_checkpoint_is_not_replaced_by_its_usual_file(tmp_path):
    small_vae().save_pretrained(tmp_path)
    pipe = tmp_path / "ema.safetensors"
    os.mkfifo(pipe)
    for read in (load, inspect):
        with pytest.raises(ValueError, match="ema.safetensors is neither a file nor a folder but a pipe"):
            read(pipe)
