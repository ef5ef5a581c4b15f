"""Is a video VAE causal, and what has to change so that it is."""

from typing import NamedTuple

import torch
from torch import nn

from ..families import Maps, maps_of
from ..temporal_vae import FrameGroupNorm, TemporalVAE
from ..utils.text import count
from ..video_vae import VideoVAE
from .attribution import LeakAttribution, attribute_leak
from .dependency import FutureLeak, future_leak


class Leaks(NamedTuple):
    """Whether an encoder and a decoder let the future in."""

    encoder: FutureLeak
    decoder: FutureLeak

    @property
    def any(self) -> bool:
        return self.encoder.leaks or self.decoder.leaks


class MadeCausal(NamedTuple):
    """What `make_causal` returns."""

    replaced: list[str]
    """Paths of the norms that take their statistics frame by frame from now on."""
    before: Leaks
    after: Leaks

    def __repr__(self) -> str:
        lines = [f"MadeCausal: {count(len(self.replaced), 'norm')} made per-frame"]
        for half in Leaks._fields:
            was, now = getattr(self.before, half), getattr(self.after, half)
            lines.append(f"  {half}: largest leak {was.largest:.1e} before, {_amount(now)} after")
        return "\n".join(lines)

    def table(self):
        """A pandas DataFrame, one row for each half: its largest leak and leaking pairs, before and after."""
        from pandas import DataFrame, Index

        rows = [
            (was.largest, was.pairs, now.largest, now.pairs, now.forbidden_pairs)
            for was, now in zip(self.before, self.after, strict=True)
        ]
        columns = ["leak before", "pairs before", "leak after", "pairs after", "forbidden pairs"]
        return DataFrame(rows, Index(Leaks._fields, name="half"), columns)


def _amount(leak: FutureLeak) -> str:
    return f"{leak.largest:.1e}" if leak.leaks else "exactly 0"


def leaks(maps: Maps) -> Leaks:
    """The causality probe on both halves of a model."""
    return Leaks(
        future_leak(maps.encode, maps.x, maps.encoder_last_seen),
        future_leak(maps.decode, maps.z, maps.decoder_last_seen),
    )


def attribute(vae, maps: Maps) -> tuple[LeakAttribution, LeakAttribution]:
    """Which module lets the future in: of the encoder, and of the decoder."""
    return attribute_leak(vae, maps.encode, maps.x), attribute_leak(vae, maps.decode, maps.z)


def make_causal(vae, num_frames: int = 17, size: int = 16) -> MadeCausal:
    """Let every GroupNorm of a video VAE that pools over time take its statistics frame by frame, and probe again.

    In place: the weights stay, the norms are exchanged, and the lab's own models note it in their config, so that
    `save_pretrained` keeps it. A model whose only leak is such norms is causal afterwards, and the same however it is
    chunked with caches (diffusers' CogVideoX). It is another model than the one that was trained: its quality has to be
    measured, and it may need more training.

    Args:
        vae: the lab's, or a diffusers class. Norms over frames that are folded into the batch stay as they are.
        num_frames, size: of the noise that it is probed with, as in `adapters.maps_of`.

    Raises ValueError where no norm pools over time.
    """
    maps = maps_of(vae, num_frames, size)
    paths = _norms_over_time(vae, maps)
    if not paths:
        raise ValueError(f"no GroupNorm of this {type(vae).__name__} takes its statistics over several frames")
    before = leaks(maps)
    for path in paths:
        parent, _, name = path.rpartition(".")
        setattr(vae.get_submodule(parent), name, _per_frame(vae.get_submodule(path)))
    _note(vae)
    return MadeCausal(paths, before, leaks(maps._replace(z=maps.encode(maps.x).detach())))


def _norms_over_time(vae: nn.Module, maps: Maps) -> list[str]:
    """Paths of the GroupNorms that are given a clip, (B, C, T, H, W), when the model encodes or decodes."""
    names = {m: name for name, m in vae.named_modules() if isinstance(m, nn.GroupNorm | FrameGroupNorm)}
    found = set()

    def look(module: nn.Module, inputs: tuple) -> None:
        if inputs[0].ndim == 5 and not isinstance(module, FrameGroupNorm):
            found.add(names[module])

    hooks = [module.register_forward_pre_hook(look) for module in names]
    try:
        with torch.no_grad():
            maps.decode(maps.encode(maps.x))
    finally:
        for hook in hooks:
            hook.remove()
    return [name for name in names.values() if name in found]


def _per_frame(norm: nn.GroupNorm) -> FrameGroupNorm:
    """The same norm with the same parameters, frame by frame."""
    new = FrameGroupNorm(norm.num_groups, norm.num_channels, norm.eps, norm.affine)
    new.weight, new.bias = norm.weight, norm.bias
    return new.train(norm.training)


def _note(vae: nn.Module) -> None:
    temporal = getattr(vae, "temporal", vae)
    if isinstance(temporal, TemporalVAE):
        temporal.register_to_config(norm="frame_group")
    if isinstance(vae, VideoVAE):
        vae.register_to_config(temporal_config={**(vae.config.temporal_config or {}), "norm": "frame_group"})
