"""STDiT3 against Open-Sora's golden values, and against a second, plain version on other configurations."""

import json
import math

import pytest
import torch
from diffusers import AutoModel
from safetensors.torch import load_file, save_file

from tests.helpers import GOLDEN
from vae_lab import load
from vae_lab.__main__ import main
from vae_lab.checkpoints import inspect
from vae_lab.generation import STDiT3

FOLDER = GOLDEN / "stdit"
CASES = load_file(FOLDER / "cases.safetensors")
INFO = json.loads((FOLDER / "cases.json").read_text())
SMALL = dict(in_channels=3, hidden_size=24, depth=1, num_heads=2, caption_channels=5, model_max_length=3)


def randomised(**config) -> STDiT3:
    """No parameter is zero: an error behind it would stay hidden."""
    model = STDiT3(**SMALL | config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def inputs(model: STDiT3, batch=2, frames=3, height=4, width=6, tokens=3) -> dict:
    config = model.config
    return dict(
        x=torch.randn(batch, config.in_channels, frames, height, width),
        timestep=torch.rand(batch) * 1000,
        y=torch.randn(batch, tokens, config.caption_channels),
        fps=24,
        height=height * 8,
        width=width * 8,
    )


def assert_close(got, wanted, tolerance=1e-5):
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.fixture
def double():
    """In float64 the order of operations hardly matters."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# ---- golden values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(4))
@torch.no_grad()
def test_the_outputs_are_open_soras(number):
    info = INFO["cases"][number]
    case = {name.split(".")[1]: value for name, value in CASES.items() if name.startswith(f"case{number}.")}
    height, width = info["pixels"]
    batch = len(case["x"])
    size = dict(fps=info["fps"], height=height, width=width)
    model = load(FOLDER / "checkpoint")
    arguments = [case["x"], case["timestep"], case["y"], case["y_mask"], case.get("x_mask")]
    assert_close(model(*arguments, **size).sample, case["output"])
    size = {name: torch.full((batch,), float(value)) for name, value in size.items()}  # as the reference takes them
    (sample,) = model(arguments[0], arguments[1], case["y"][:, 0], *arguments[3:], **size, return_dict=False)
    assert_close(sample, case["output"])


@pytest.mark.parametrize(
    ("size", "count"), [({}, 1_207_643_936), (dict(hidden_size=1872, num_heads=26), 3_182_211_536)]
)
@pytest.mark.parametrize("attention", ["factorised", "full"])
def test_the_released_sizes(size, count, attention):
    with torch.device("meta"):
        model = STDiT3(**size, attention=attention)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    stored = model.state_dict()
    assert stored["y_embedder.y_embedding"].shape == (300, 4096) and stored["rope.freqs"].shape == (36,)


# ---- a second version ------------------------------------------------------------------------------------------------


class Reference:
    """STDiT3 as loops over clips, frames, places and heads, straight from the state dict and its names."""

    def __init__(self, model: STDiT3):
        self.config, self.state = model.config, model.state_dict()

    def linear(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def mlp(self, name, x):
        x = self.linear(f"{name}.fc1", x)
        x = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return self.linear(f"{name}.fc2", x)

    def embed_number(self, name, value):
        angles = value * torch.tensor([10_000 ** (-i / 128) for i in range(128)])
        x = self.linear(f"{name}.mlp.0", torch.cat([angles.cos(), angles.sin()]))
        return self.linear(f"{name}.mlp.2", x / (1 + torch.exp(-x)))

    @staticmethod
    def norm(x):
        return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-6)

    def attend(self, q, k, v):
        """(N, C), (M, C), (M, C) -> (N, C), head by head."""
        size = q.shape[1] // self.config.num_heads
        heads = []
        for h in range(self.config.num_heads):
            part = slice(h * size, (h + 1) * size)
            heads.append(((q[:, part] @ k[:, part].T) / math.sqrt(size)).softmax(-1) @ v[:, part])
        return torch.cat(heads, 1)

    def normalised(self, name, x):
        """RMS norm of each head."""
        if not self.config.qk_norm:
            return x
        heads = x.unflatten(1, (self.config.num_heads, -1))
        return (heads / torch.sqrt((heads**2).mean(-1, keepdim=True) + 1e-6) * self.state[f"{name}.weight"]).flatten(1)

    def turned(self, x, frames):
        """Rotate each pair of channels as a complex number; frames: the place in time of each token."""
        pairs = torch.view_as_complex(x.unflatten(1, (self.config.num_heads, -1, 2)).contiguous())
        angles = torch.tensor(frames)[:, None] * self.state["rope.freqs"]
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)[:, None]).flatten(1)

    def self_attention(self, name, x, frames=None):
        q, k, v = self.linear(f"{name}.qkv", x).chunk(3, 1)
        q, k = self.normalised(f"{name}.q_norm", q), self.normalised(f"{name}.k_norm", k)
        if frames is not None:
            q, k = self.turned(q, frames), self.turned(k, frames)
        return self.linear(f"{name}.proj", self.attend(q, k, v))

    def block(self, name, x, text, vectors):
        """x: (T, S, C); vectors: for each frame its (6, C)."""
        table = self.state[f"{name}.scale_shift_table"]
        shift, scale, gate, shift2, scale2, gate2 = (torch.stack([table[i] + v[i] for v in vectors]) for i in range(6))
        y, frames, places = self.norm(x) * (1 + scale[:, None]) + shift[:, None], *x.shape[:2]
        if self.config.attention == "full":
            when = [float(t) for t in range(frames) for _ in range(places)]
            y = self.self_attention(f"{name}.attn", y.flatten(0, 1), when).view_as(x)
        elif name.startswith("spatial"):
            y = torch.stack([self.self_attention(f"{name}.attn", frame) for frame in y])
        else:
            when = [float(t) for t in range(frames)]
            y = torch.stack([self.self_attention(f"{name}.attn", y[:, s], when) for s in range(places)], 1)
        x = x + gate[:, None] * y
        k, v = self.linear(f"{name}.cross_attn.kv_linear", text).chunk(2, 1)
        q = self.linear(f"{name}.cross_attn.q_linear", x.flatten(0, 1))
        x = x + self.linear(f"{name}.cross_attn.proj", self.attend(q, k, v)).view_as(x)
        return x + gate2[:, None] * self.mlp(f"{name}.mlp", self.norm(x) * (1 + scale2[:, None]) + shift2[:, None])

    def places(self, height, width, scale):
        """Half of the channels for x, half for y, each sines then cosines."""
        quarter, base = self.config.hidden_size // 4, round(math.sqrt(height * width))
        freqs = torch.tensor([10_000 ** (-i / quarter) for i in range(quarter)])
        rows = []
        for i in range(height):
            for j in range(width):
                waves = [place * base / side / scale * freqs for place, side in ((j, width), (i, height))]
                rows.append(torch.cat([f(wave) for wave in waves for f in (torch.sin, torch.cos)]))
        return torch.stack(rows)

    def clip(self, x, t, text, kept, fps, height, width):
        """One clip x (C, T, H, W); kept: for each frame whether it is kept."""
        _, ph, pw = self.config.patch_size
        channels, frames, rows, columns = x.shape
        h, w = math.ceil(rows / ph), math.ceil(columns / pw)
        padded = torch.zeros(channels, frames, h * ph, w * pw)
        padded[:, :, :rows, :columns] = x
        weight = self.state["x_embedder.proj.weight"].flatten(1)
        patches = padded.view(channels, frames, h, ph, w, pw).permute(1, 2, 4, 0, 3, 5).reshape(frames, h * w, -1)
        z = patches @ weight.T + self.state["x_embedder.proj.bias"]
        z = z + self.places(h, w, math.sqrt(height * width) / self.config.input_sq_size)
        rate = self.embed_number("fps_embedder", fps)
        t, t0 = self.embed_number("t_embedder", t) + rate, self.embed_number("t_embedder", 0.0) + rate
        six = [self.linear("t_block.1", v / (1 + torch.exp(-v))).view(6, -1) for v in (t, t0)]
        vectors = [six[1] if still else six[0] for still in kept]
        text = self.mlp("y_embedder.y_proj", text)
        for i in range(self.config.depth):
            for kind in ("spatial", "temporal"):
                z = self.block(f"{kind}_blocks.{i}", z, text, vectors)
        table, out = self.state["final_layer.scale_shift_table"], []
        for frame, still in zip(z, kept, strict=True):
            frame = self.norm(frame) * (1 + table[1] + t) + table[0] + t
            if still:
                frame = self.norm(frame) * (1 + table[1] + t0) + table[0] + t0
            numbers = self.linear("final_layer.linear", frame).view(h, w, ph, pw, -1)
            out.append(numbers.permute(4, 0, 2, 1, 3).reshape(-1, h * ph, w * pw)[:, :rows, :columns])
        return torch.stack(out, 1)


@pytest.mark.parametrize(
    ("config", "size", "pixels"),
    [
        (dict(depth=3, hidden_size=40, num_heads=2, in_channels=8), (4, 6, 10), (48, 80)),
        (dict(depth=3, hidden_size=40, num_heads=2, attention="full"), (4, 6, 10), (48, 80)),
        (dict(depth=2, hidden_size=24, num_heads=6, mlp_ratio=1.5, qk_norm=False), (5, 3, 7), (24, 56)),
        (
            dict(depth=1, pred_sigma=False, patch_size=(1, 1, 3), input_sq_size=64, attention="full"),
            (3, 5, 4),
            (80, 64),
        ),
    ],
    ids=["wide", "full", "odd", "patch"],
)
@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_other_configurations(double, config, size, pixels, masked):
    model = randomised(**config)
    frames, height, width = size
    given = inputs(model, 3, frames, height, width, tokens=7)
    fps, (rows, columns) = torch.tensor([8.0, 24, 120]), pixels
    given |= dict(height=rows, width=columns, fps=fps)
    text = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1]])
    moving = torch.rand(3, frames) < 0.5 if masked else torch.ones(3, frames, dtype=torch.bool)
    got = model(**given, y_mask=text, x_mask=moving if masked else None).sample
    reference = Reference(model)
    wanted = [
        reference.clip(given["x"][i], given["timestep"][i], given["y"][i][text[i] > 0], ~moving[i], fps[i], *pixels)
        for i in range(3)
    ]
    assert_close(got, torch.stack(wanted), 1e-12)


# ---- what it sees ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_new_model_computes_each_frame_alone():
    """Temporal blocks begin as the identity, and the frame rate has no effect yet."""
    model = STDiT3(**SMALL | dict(depth=2)).eval()
    given = inputs(model)
    whole = model(**given).sample
    alone = model(**given | dict(x=given["x"][:, :, 1:2], fps=8)).sample
    assert torch.allclose(whole[:, :, 1:2], alone, atol=1e-6)


@pytest.mark.parametrize("attention", ["factorised", "full"])
@torch.no_grad()
def test_trained_models_know_the_order_of_frames(attention):
    model = randomised(attention=attention)
    given = inputs(model)
    backwards = model(**given | dict(x=given["x"].flip(2))).sample.flip(2)
    assert (backwards - model(**given).sample).abs().max() > 1e-3


@torch.no_grad()
def test_without_temporal_blocks_frames_are_a_set():
    model = randomised(depth=2)
    for block in model.temporal_blocks:
        for layer in (block.attn.proj, block.cross_attn.proj, block.mlp.fc2):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    given = inputs(model)
    backwards = model(**given | dict(x=given["x"].flip(2))).sample.flip(2)
    assert torch.allclose(backwards, model(**given).sample, atol=1e-5)


@torch.no_grad()
def test_ignored_tokens_have_no_effect_and_one_mask_serves_twice_the_clips():
    model = randomised()
    given = inputs(model, batch=4)
    mask = torch.tensor([[1, 0, 1], [1, 1, 0]])
    got = model(**given, y_mask=mask).sample
    other = given["y"].clone()
    other[0, 1] = other[2, 1] = other[1, 2] = other[3, 2] = 99.0
    assert torch.equal(model(**given | dict(y=other), y_mask=mask.repeat(2, 1)).sample, got)
    assert not torch.allclose(model(**given | dict(y=other)).sample, got)


# ---- as diffusers' models --------------------------------------------------------------------------------------------


def same(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_is_saved_and_loaded(tmp_path):
    model = randomised(attention="full", patch_size=(1, 1, 2))
    model.save_pretrained(tmp_path)
    readers = (load, STDiT3.from_pretrained, lambda folder: AutoModel.from_pretrained(str(folder)))
    for read in readers:
        other = read(tmp_path)
        assert type(other) is STDiT3 and not other.training and same(other, model)
        assert other.config.attention == "full"
    info = inspect(tmp_path)
    assert (info.layout, info.class_name, bool(info.differences)) == ("vae_lab", "STDiT3", False)
    given = inputs(model)
    assert torch.equal(load(tmp_path)(**given).sample, model(**given).sample)


def test_the_released_layout_is_read(tmp_path, capsys):
    info = inspect(FOLDER / "checkpoint")
    assert (info.layout, info.class_name, bool(info.differences)) == ("open_sora", "STDiT3", False)
    assert info.parameters["spatial_blocks"] == info.parameters["temporal_blocks"] == 75_600
    assert main(["inspect", str(FOLDER / "checkpoint")]) == 0
    assert "layout       open_sora, STDiT3" in capsys.readouterr().out

    released = {"architectures": ["STDiT3"], "model_type": "STDiT3", "input_size": [None] * 3, "qk_norm": True,
                "enable_flash_attn": True, "enable_layernorm_kernel": True, "torch_dtype": "float32",
                "transformers_version": "4.38.2", "class_dropout_prob": 0.1, "skip_y_embedder": False}  # fmt: skip
    config = tmp_path / "config.json"
    tensors = load_file(FOLDER / "checkpoint" / "model.safetensors")
    del tensors["rope.freqs"]
    save_file(tensors, tmp_path / "model.safetensors")
    config.write_text(json.dumps(INFO["model"] | released))
    with pytest.warns(UserWarning, match="rope.freqs are not in"):
        assert same(load(tmp_path), load(FOLDER / "checkpoint"))
    config.unlink()
    info = inspect(tmp_path / "model.safetensors")  # as the released file, which this one does not fit
    assert (info.layout, info.class_name) == ("open_sora", "STDiT3") and info.config == {"model_type": "STDiT3"}
    with pytest.raises(ValueError, match=r"does not fit its architecture\n885 missing keys"):
        load(tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError, match="has no config.json, so its layout cannot be told"):
        load(tmp_path)
    for change, message in (
        ({"skip_y_embedder": True}, "skip_y_embedder must be false"),
        ({"window_size": 3}, "STDiT3 has arguments the lab does not know: window_size"),
        ({"depth": 3}, "does not fit its architecture"),
    ):
        config.write_text(json.dumps(INFO["model"] | released | change))
        with pytest.raises(ValueError, match=message):
            load(tmp_path)
    with pytest.raises(ValueError, match="spatial_config is for VAEs, .* is an STDiT3"):
        load(FOLDER / "checkpoint", spatial_config={})


@torch.no_grad()
def test_half_precision_keeps_the_angles():
    model, half = load(FOLDER / "checkpoint"), load(FOLDER / "checkpoint", dtype=torch.bfloat16)
    given = inputs(model)
    wanted = model(**given).sample
    for other in (half, load(FOLDER / "checkpoint").to(torch.bfloat16)):
        assert other.dtype == torch.bfloat16 and torch.equal(other.rope.freqs, model.rope.freqs)
        assert (other(**given).sample - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_gradients_are_the_same_with_checkpointing_and_the_output_when_compiled():
    model = randomised(depth=2)
    given, gradients = inputs(model), []
    for _ in range(2):
        model.zero_grad()
        model(**given).sample.square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        model.enable_gradient_checkpointing()
    assert all(torch.allclose(a, gradients[1][name], atol=1e-6) for name, a in gradients[0].items())
    assert all(gradient.any() for name, gradient in gradients[0].items() if "qkv.bias" not in name)
    model.disable_gradient_checkpointing()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(**given).sample, model(**given).sample, atol=1e-6)


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=torch.zeros(2, 4, 3, 4, 6)), "x must have 3 channels, got 4"),
        (dict(x=torch.zeros(2, 3, 4, 6)), r"x must be a tensor of shape \(B, C, T, H, W\)"),
        (dict(x=torch.full((2, 3, 3, 4, 6), torch.nan)), "x must be finite"),
        (dict(timestep=torch.tensor(5.0)), r"timestep must have shape \(2,\), one for each clip, got \(\)"),
        (dict(timestep=torch.tensor([5.0, 1200.0])), r"timestep must be from 0 \(data\) to 1000 \(noise\), got 1200.0"),
        (dict(timestep=torch.tensor([torch.nan, 5.0])), "timestep must be from 0 .* got nan"),
        (dict(timestep=None), "timestep must hold numbers, got None"),
        (dict(y=["red", "blue"]), "y must be a tensor, got list"),
        (dict(y=torch.full((2, 3, 5), torch.nan)), r"y must be finite, got NaN or infinity \(shape \(2, 3, 5\)\)"),
        (dict(y_mask=[[1, 1, 1]] * 2), "y_mask must be a tensor, got list"),
        (dict(x_mask=[[True] * 3] * 2), r"x_mask must be bool of shape \(2, 3\), .* got list"),
        (dict(fps=0), r"fps must be above 0 and finite, got \[0.0\]"),
        (dict(fps=torch.tensor([24.0, torch.nan])), r"fps must be above 0 and finite, got \[24.0, nan\]"),
        (dict(fps="24"), "fps must hold numbers, got '24'"),
        (dict(y=torch.zeros(2, 3, 6)), r"y must have shape \(2, tokens, 5\), got \(2, 3, 6\)"),
        (dict(y=torch.zeros(1, 3, 5)), r"y must have shape \(2, tokens, 5\), got \(1, 3, 5\)"),
        (dict(y_mask=torch.ones(2, 4)), r"y_mask must have shape \(2, 3\), one for each token, got \(2, 4\)"),
        (dict(y_mask=torch.tensor([[1, 1, 1], [0, 0, 0]])), "y_mask must leave each text at least one token"),
        (dict(x_mask=torch.ones(2, 3)), r"x_mask must be bool of shape \(2, 3\), .* got torch.float32"),
        (dict(x_mask=torch.ones(2, 2, dtype=torch.bool)), r"x_mask must be bool of shape \(2, 3\)"),
        (dict(fps=torch.ones(3)), r"fps must be one number, or one for each of 2 clips, got shape \(3,\)"),
        (dict(height=-8), "height must be one number above 0"),
        (dict(width=torch.tensor([8, 16])), r"width must be one number above 0, or the same .* got \[8, 16\]"),
    ],
    ids=str,
)
def test_bad_input_is_refused(change, message):
    model = STDiT3(**SMALL)
    with pytest.raises(ValueError, match=message):
        model(**inputs(model) | change)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(attention="window"), "attention must be one of factorised, full, got 'window'"),
        (dict(hidden_size=25), r"hidden_size \(25\) must be a multiple of 4, and of num_heads \(2\)"),
        (dict(hidden_size=12, num_heads=4), r"hidden_size \(12\) must be"),
        (dict(depth=0), "depth must be at least 1, got 0"),
        (dict(patch_size=(2, 2, 2)), r"patch_size must be \(1, height, width\), got \(2, 2, 2\)"),
        (dict(patch_size=2), r"patch_size must be \(1, height, width\), got 2"),
        (dict(patch_size=(1, 0, 2)), "patch_size must be at least 1, got 0"),
        (dict(patch_size=(1, 2.5, 2)), "patch_size must be an integer of at least 1, got 2.5"),
        (dict(mlp_ratio=0), "mlp_ratio must be above 0 and finite, got 0"),
        (dict(mlp_ratio=0.01), r"hidden_size \* mlp_ratio must be at least 1, got 0"),
        (dict(pred_sigma="no"), "pred_sigma must be True or False, got 'no'"),
        (dict(qk_norm=1), "qk_norm must be True or False, got 1"),
    ],
    ids=str,
)
def test_bad_configs_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        STDiT3(**SMALL | config)
