"""STDiT3, the transformer of Open-Sora 1.2: it predicts the velocity of noisy latents, given a timestep and a text.

A latent (C, L, h, w) is cut into patches of 1x2x2 cells, which become tokens (T, S): S places in each of T latent
frames. Blocks come in pairs. The first of a pair mixes the S tokens of a frame (space), the second the T tokens at a
place (time). Each block computes

    x = x + gate * attention(modulated(norm(x)))
    x = x + cross-attention of x to the text
    x = x + gate * MLP(modulated(norm(x)))

with a shift, a scale and a gate for attention, and others for the MLP, which depend on the timestep and the frame rate.
One layer computes them for the whole model, and each block adds six vectors of its own ("adaLN-single").

Parameters have the names of the release (`hpcai-tech/OpenSora-STDiT-v3` on Hugging Face), not those usual in diffusers.

Sources: Open-Sora v1.2.0, `opensora/models/stdit/stdit3.py` and `opensora/models/layers/blocks.py`. adaLN-single and
the cross-attention are from PixArt-alpha (Chen et al. 2023, arXiv 2310.00426), the factorised attention from Latte (Ma
et al. 2024, arXiv 2401.03048), the rotation from RoFormer (Su et al. 2021, arXiv 2104.09864).
"""

from collections.abc import Sequence
from math import inf, log, prod, sqrt
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor, nn

from ..gaussian import at_least_float32
from ..utils.checks import check_above, check_flag, check_one_of, check_video, plain, positive_int, repeated_number
from ..utils.wrapping import PlainKeys, PreciseBuffers
from .rectified_flow import check_mask, has_values, numbers, timesteps_of

ATTENTIONS = ("factorised", "full")
FREQUENCIES = 128  # of the sines and cosines that stand for a timestep or a frame rate
THETA = 10_000.0  # ratio of the longest to the shortest period, of timesteps and of positions
NORM_EPS = 1e-6


class STDiT3(PlainKeys):
    """The velocity x0 - noise of noisy latents (B, C, L, h, w).

    The defaults are the release's architecture, 1,207,643,936 parameters, with random weights.

    Args:
        in_channels: C, the channels of the VAE's latents.
        patch_size: latent cells in a token along (time, height, width).
        hidden_size, depth, num_heads, mlp_ratio: channels, pairs of blocks, heads, and width of an MLP in hidden_size.
        caption_channels, model_max_length: channels of the text's tokens, and tokens of the text that says nothing.
        pred_sigma: return 2 * C channels, as the release does; the second half is neither trained nor used.
        qk_norm: normalise queries and keys in each head.
        input_sq_size: side in pixels of the square clips whose positions in space have scale 1.
        attention: "factorised", as in the release; or "full": both blocks of a pair attend to all T * S tokens, and
          know their places in time. The parameters are the same.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]
    _keep_in_fp32_modules = ["rope"]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        patch_size: Sequence[int] = (1, 2, 2),
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        caption_channels: int = 4096,
        model_max_length: int = 300,
        pred_sigma: bool = True,
        qk_norm: bool = True,
        input_sq_size: int = 512,
        attention: str = "factorised",
    ):
        super().__init__()
        check_one_of("attention", attention, ATTENTIONS)
        check_above("mlp_ratio", mlp_ratio, 0)
        sizes = dict(in_channels=in_channels, hidden_size=hidden_size, depth=depth, num_heads=num_heads)
        sizes |= dict(caption_channels=caption_channels, model_max_length=model_max_length, input_sq_size=input_sq_size)
        for name, value in sizes.items():
            positive_int(name, value)
        for name, value in dict(pred_sigma=pred_sigma, qk_norm=qk_norm).items():
            check_flag(name, value)
        if not isinstance(plain(patch_size), list | tuple) or len(patch_size) != 3 or patch_size[0] != 1:
            raise ValueError(f"patch_size must be (1, height, width), got {patch_size!r}")
        for size in patch_size:
            positive_int("patch_size", size)
        if hidden_size % num_heads or hidden_size // num_heads % 2 or hidden_size % 4:
            raise ValueError(
                f"hidden_size ({hidden_size}) must be a multiple of 4, and of num_heads ({num_heads}) with an even "
                "number of channels in each head"
            )
        self.x_embedder = PatchEmbedder(in_channels, hidden_size, patch_size)
        self.t_embedder = NumberEmbedder(hidden_size)
        self.fps_embedder = NumberEmbedder(hidden_size)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))
        self.y_embedder = CaptionEmbedder(caption_channels, hidden_size, model_max_length)
        self.rope = Rotation(hidden_size // num_heads)
        mlp_size = positive_int("hidden_size * mlp_ratio", int(hidden_size * mlp_ratio))
        widths = hidden_size, num_heads, mlp_size, qk_norm
        full = attention == "full"
        self.spatial_blocks = nn.ModuleList(Block("full" if full else "space", *widths) for _ in range(depth))
        self.temporal_blocks = nn.ModuleList(Block("full" if full else "time", *widths) for _ in range(depth))
        self.final_layer = FinalLayer(hidden_size, prod(patch_size) * in_channels * (2 if pred_sigma else 1))
        self.gradient_checkpointing = False
        self._initialize()

    def _initialize(self) -> None:
        """Set the weights as Open-Sora does, but for the first layer of the frame rate, whose effect begins at 0.

        Temporal blocks begin as the identity: each frame is computed alone.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for name, weight in self.named_parameters():
            last_of_temporal = name.startswith("temporal_blocks") and name.endswith(("attn.proj.weight", "fc2.weight"))
            if last_of_temporal or name == "fps_embedder.mlp.2.weight":
                nn.init.zeros_(weight)

    def null_caption(self, count: int = 1) -> Tensor:
        """Return the text that says nothing, which takes the place of dropped captions: (count, tokens, channels)."""
        return self.y_embedder.y_embedding.expand(count, -1, -1)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        y: Tensor,
        y_mask: Tensor | None = None,
        x_mask: Tensor | None = None,
        *,
        fps: Any,
        height: Any,
        width: Any,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Return `.sample`, the velocity (B, C, L, h, w), or 2 * C channels if pred_sigma, in at least float32.

        Args:
            x: noisy latents (B, C, L, h, w). Heights and widths that are no multiple of the patch are padded.
            timestep: (B,), from 0 (data) to 1000 (noise).
            y: tokens of the text, (B, N, caption_channels) or (B, 1, N, caption_channels).
            y_mask: (B, N), 0 or False for tokens to ignore. Of fewer rows, each serves as many clips in turn.
            x_mask: bool (B, L), False for latent frames that are kept, which have timestep 0. Their output means
              nothing: as in the reference, the last layer normalises and modulates it twice.
            fps: frames per second, a number or (B,). Open-Sora says 120 for images.
            height, width: of the clips in pixels; the same for the whole batch.

        Raises ValueError if shapes do not fit each other or the config, or if a text has no token to attend to.
        """
        config = self.config
        check_video("x", x, config.in_channels)
        x, shape, batch, frames = x.to(self.dtype), x.shape, len(x), x.shape[2]
        timestep = timesteps_of(timestep, batch, x.device)
        if x_mask is not None:
            check_mask("x_mask", x_mask, (batch, frames))
        y, text_mask = self._text(y, y_mask, batch)
        h, w = (-(-side // patch) for side, patch in zip(x.shape[3:], config.patch_size[1:], strict=True))

        kind = torch.promote_types(x.dtype, torch.float32)
        rate = numbers("fps", fps, device=x.device, dtype=kind).flatten()
        if len(rate) not in (1, batch):
            raise ValueError(f"fps must be one number, or one for each of {batch} clips, got shape {tuple(rate.shape)}")
        if has_values(rate) and not ((rate > 0) & (rate < inf)).all():
            raise ValueError(f"fps must be above 0 and finite, got {rate.tolist()}")
        rate = self.fps_embedder(rate.expand(batch))
        t, t0 = (self.t_embedder(value) + rate for value in (timestep, torch.zeros_like(timestep)))
        modulation = self.t_block(t).unflatten(1, (1, 6, -1))  # (B, 1, 6, hidden)
        if x_mask is not None:
            still = self.t_block(t0).unflatten(1, (1, 6, -1))
            modulation = torch.where(x_mask[:, :, None, None], modulation, still)  # (B, T, 6, hidden)

        height, width = repeated_number("height", height), repeated_number("width", width)
        scale = sqrt(height * width) / config.input_sq_size
        x = self.x_embedder(x) + positions(h, w, config.hidden_size, scale, like=x)
        rotation = self.rope(frames)
        for pair in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            for block in pair:
                arguments = x, y, text_mask, modulation, rotation
                if torch.is_grad_enabled() and self.gradient_checkpointing:
                    x = self._gradient_checkpointing_func(block, *arguments)
                else:
                    x = block(*arguments)
        x = self.final_layer(x, t, t0, x_mask).unflatten(2, (h, w)).unflatten(-1, (*config.patch_size[1:], -1))
        x = x.permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)  # (B, channels, T, h, patch, w, patch) -> 5 axes
        sample = at_least_float32(x[..., : shape[-2], : shape[-1]])
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def _text(self, y: Tensor, y_mask: Tensor | None, batch: int) -> tuple[Tensor, Tensor | None]:
        """Check a text and embed it. Return it, (B, N, hidden), and where to attend, bool (B, 1, 1, N) or None."""
        channels = self.config.caption_channels
        for name, value in dict(y=y, y_mask=y_mask).items():
            if not isinstance(value, Tensor) and not (name == "y_mask" and value is None):
                raise ValueError(f"{name} must be a tensor, got {type(value).__name__}")
        if y.ndim == 4 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 3 or len(y) != batch or not y.shape[1] or y.shape[2] != channels:
            raise ValueError(f"y must have shape ({batch}, tokens, {channels}), got {tuple(y.shape)}")
        if has_values(y) and not y.isfinite().all():
            raise ValueError(f"y must be finite, got NaN or infinity (shape {tuple(y.shape)})")
        if y_mask is not None:
            if y_mask.ndim != 2 or y_mask.shape[1] != y.shape[1] or not len(y_mask) or batch % len(y_mask):
                shape = tuple(y_mask.shape)
                raise ValueError(f"y_mask must have shape ({batch}, {y.shape[1]}), one for each token, got {shape}")
            y_mask = y_mask.ne(0).repeat(batch // len(y_mask), 1)
            if has_values(y_mask) and not y_mask.any(1).all():
                raise ValueError("y_mask must leave each text at least one token; null_caption stands for no text")
            y_mask = y_mask[:, None, None]
        return self.y_embedder(y.to(self.dtype)), y_mask


class Block(nn.Module):
    """Attention among tokens, cross-attention to the text, and an MLP: (B, T, S, C) -> same shape.

    among: "space" (the S tokens of each frame), "time" (the T tokens at each place) or "full" (all of them).
    """

    def __init__(self, among: str, hidden_size: int, num_heads: int, mlp_size: int, qk_norm: bool):
        super().__init__()
        self.among = among
        self.norm = nn.LayerNorm(hidden_size, eps=NORM_EPS, elementwise_affine=False)
        self.attn = Attention(hidden_size, num_heads, qk_norm)
        self.cross_attn = CrossAttention(hidden_size, num_heads)
        self.mlp = MLP(hidden_size, mlp_size, hidden_size)
        self.scale_shift_table = nn.Parameter(torch.randn(6, hidden_size) / hidden_size**0.5)

    def forward(self, x: Tensor, y: Tensor, text_mask: Tensor | None, modulation: Tensor, rotation: Tensor) -> Tensor:
        table = self.scale_shift_table.to(modulation.dtype) + modulation
        # each (B, 1 or T, 1, C)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = table.unsqueeze(3).unbind(2)
        x = x + gate * self._attend(self.norm(x) * (1 + scale) + shift, rotation)
        x = x + self.cross_attn(x.flatten(1, 2), y, text_mask).view_as(x)
        return x + mlp_gate * self.mlp(self.norm(x) * (1 + mlp_scale) + mlp_shift)

    def _attend(self, x: Tensor, rotation: Tensor) -> Tensor:
        if self.among == "space":
            return self.attn(x.flatten(0, 1)).view_as(x)
        if self.among == "time":
            tokens = x.transpose(1, 2)
            return self.attn(tokens.flatten(0, 1), rotation).view_as(tokens).transpose(1, 2)
        return self.attn(x.flatten(1, 2), rotation.repeat_interleave(x.shape[2], 0)).view_as(x)


class Attention(nn.Module):
    """Self-attention (B, N, C), with queries and keys that are normalised in each head, then rotated."""

    def __init__(self, hidden_size: int, num_heads: int, qk_norm: bool):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.q_norm, self.k_norm = (
            nn.RMSNorm(hidden_size // num_heads, eps=NORM_EPS) if qk_norm else nn.Identity() for _ in range(2)
        )
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, rotation: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotated(q, rotation), rotated(k, rotation)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Attention of x (B, N, C) to a text y (B, M, C). It has neither norm nor gate."""

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_linear = nn.Linear(hidden_size, hidden_size)
        self.kv_linear = nn.Linear(hidden_size, 2 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
        q = self.q_linear(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        k, v = self.kv_linear(y).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Linear, GELU (tanh's approximation), linear."""

    def __init__(self, in_size: int, hidden_size: int, out_size: int):
        super().__init__()
        self.fc1 = nn.Linear(in_size, hidden_size)
        self.fc2 = nn.Linear(hidden_size, out_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class PatchEmbedder(nn.Module):
    """Latents (B, C, L, h, w) -> tokens (B, T, S, hidden). Zeros pad what is no multiple of the patch at its end."""

    def __init__(self, in_channels: int, hidden_size: int, patch_size: Sequence[int]):
        super().__init__()
        self.patch_size = time, height, width = tuple(patch_size)
        self.proj = nn.Conv3d(in_channels, hidden_size, (time, height, width), (time, height, width))

    def forward(self, x: Tensor) -> Tensor:
        _, height, width = self.patch_size
        x = F.pad(x, (0, -x.shape[4] % width, 0, -x.shape[3] % height))
        return self.proj(x).flatten(3).permute(0, 2, 3, 1)


class NumberEmbedder(nn.Module):
    """A timestep or a frame rate for each clip: (B,) -> (B, hidden), by its cosines and sines and two linear layers."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, value: Tensor) -> Tensor:
        value = at_least_float32(value)[:, None]
        steps = torch.arange(FREQUENCIES, device=value.device, dtype=value.dtype)
        angles = value * torch.exp(-log(THETA) / FREQUENCIES * steps)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], 1).to(next(self.mlp.parameters()).dtype))


class CaptionEmbedder(nn.Module):
    """A text (B, N, caption_channels) -> (B, N, hidden). `y_embedding` is the text that says nothing; it is random."""

    def __init__(self, caption_channels: int, hidden_size: int, tokens: int):
        super().__init__()
        self.y_proj = MLP(caption_channels, hidden_size, hidden_size)
        self.y_embedding: Tensor
        self.register_buffer("y_embedding", torch.randn(tokens, caption_channels) / caption_channels**0.5)

    def forward(self, y: Tensor) -> Tensor:
        return self.y_proj(y)


class FinalLayer(nn.Module):
    """Tokens (B, T, S, hidden) -> (B, T, S, numbers in a patch)."""

    def __init__(self, hidden_size: int, out_size: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size, eps=NORM_EPS, elementwise_affine=False)
        self.linear = nn.Linear(hidden_size, out_size)
        self.scale_shift_table = nn.Parameter(torch.randn(2, hidden_size) / hidden_size**0.5)

    def forward(self, x: Tensor, t: Tensor, t0: Tensor, x_mask: Tensor | None) -> Tensor:
        x = self._modulated(x, t)
        if x_mask is not None:  # the reference modulates kept frames a second time
            x = torch.where(x_mask[:, :, None, None], x, self._modulated(x, t0))
        return self.linear(x)

    def _modulated(self, x: Tensor, t: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table.to(t.dtype) + t[:, None])[:, :, None, None].unbind(1)
        return self.norm(x) * (1 + scale) + shift


class Rotation(PreciseBuffers, nn.Module):
    """Angles of rotary positions, (T, head size): two neighbouring channels turn by frame * freqs, in radians.

    The angles stay at least float32 in a model of half precision.
    """

    def __init__(self, head_size: int):
        super().__init__()
        self.freqs: Tensor
        self.register_buffer("freqs", 1 / THETA ** (torch.arange(0, head_size, 2) / head_size))

    def forward(self, frames: int) -> Tensor:
        steps = torch.arange(frames, device=self.freqs.device, dtype=self.freqs.dtype)
        return torch.outer(steps, self.freqs).repeat_interleave(2, 1)


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate pairs of neighbouring channels of x (B, heads, N, C) by angles (N, C)."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-b, a], -1).flatten(-2)
    return x * angles.cos().to(x.dtype) + turned * angles.sin().to(x.dtype)


def positions(height: int, width: int, channels: int, scale: float, like: Tensor) -> Tensor:
    """Return fixed positions of height * width tokens, row by row: (height * width, channels).

    Half of the channels are sines and cosines of x, half of y. Both run from 0 to round(sqrt(height * width)) / scale,
    whatever the aspect, so that clips of another size have positions in the same range.
    scale: sqrt(pixels) / input_sq_size. like: a tensor of the same dtype and device.
    """
    kind: dict[str, Any] = dict(device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))
    base, half = round((height * width) ** 0.5), channels // 2
    freqs = 1 / THETA ** (torch.arange(0, half, 2, **kind) / half)
    y, x = (torch.arange(size, **kind) / scale * (base / size) for size in (height, width))
    waves = [torch.outer(places, freqs) for places in (x, y)]
    along_x, along_y = (torch.cat([angles.sin(), angles.cos()], -1) for angles in waves)
    grid = [along_x.expand(height, -1, -1), along_y[:, None].expand(-1, width, -1)]
    return torch.cat(grid, -1).flatten(0, 1).to(like.dtype)
