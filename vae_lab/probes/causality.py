"""Whether a video VAE is causal, and how to make it so."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ..families.codec import codec_of
from ..families.maps import Maps, maps_of
from ..temporal_vae import FrameGroupNorm
from ..utils.tables import DataFrame, table_of
from ..utils.text import count
from .attribution import LeakAttribution, attribute_leak
from .dependency import FutureLeak, future_leak


class Leaks(NamedTuple):
    """Whether an encoder and a decoder let the future in."""

    encoder: FutureLeak
    decoder: FutureLeak

    @property
    def any(self) -> bool:
        """Whether one of them does."""
        return self.encoder.leaks or self.decoder.leaks


class MadeCausal(NamedTuple):
    """The result of `make_causal`."""

    replaced: list[str]  # paths of the norms that now take their statistics frame by frame
    before: Leaks
    after: Leaks

    def __repr__(self) -> str:
        lines = [f"MadeCausal: {count(len(self.replaced), 'norm')} made per-frame"]
        for half, before, after in zip(Leaks._fields, self.before, self.after, strict=True):
            largest = f"{after.largest:.1e}" if after.leaks else "exactly 0"
            lines.append(f"  {half}: largest leak {before.largest:.1e} before, {largest} after")
        return "\n".join(lines)

    def table(self) -> DataFrame:
        """Return one row for each half: its largest leak and leaking pairs, before and after."""
        columns = {
            "leak before": [half.largest for half in self.before],
            "pairs before": [half.pairs for half in self.before],
            "leak after": [half.largest for half in self.after],
            "pairs after": [half.pairs for half in self.after],
            "forbidden pairs": [half.forbidden_pairs for half in self.after],
        }
        return table_of(columns, "half", Leaks._fields)


def leaks(maps: Maps) -> Leaks:
    """Measure whether the encoder and the decoder of a model let the future in."""
    return Leaks(
        future_leak(maps.encode, maps.x, maps.encoder_last_seen),
        future_leak(maps.decode, maps.z, maps.decoder_last_seen),
    )


def attribute(vae, maps: Maps) -> tuple[LeakAttribution, LeakAttribution]:
    """Name the modules of the encoder, and of the decoder, that let the future in."""
    return attribute_leak(vae, maps.encode, maps.x), attribute_leak(vae, maps.decode, maps.z)


def make_causal(vae, num_frames: int = 17, size: int = 16) -> MadeCausal:
    """Let every GroupNorm of a video VAE that pools over time take its statistics frame by frame, and probe again.

    The model is changed in place: its norms are replaced, its weights stay. The lab's own models record the change in
    their config, so `save_pretrained` keeps it. If such norms were the only leak, the model is causal afterwards, and
    with caches it gives the same result however it is chunked (diffusers' CogVideoX). It is no longer the model that
    was trained: measure its quality, and expect to train it further.

    Args:
        vae: one of the lab's models, or a diffusers class. Norms of frames that are folded into the batch stay.
        num_frames, size: of the noise that it is probed with, as in `families.maps_of`.

    Raises ValueError if no norm pools over time.
    """
    maps = maps_of(vae, num_frames, size)
    paths = _norms_over_time(vae, maps)
    if not paths:
        raise ValueError(f"no GroupNorm of this {type(vae).__name__} takes its statistics over several frames")
    before = leaks(maps)
    for path in paths:
        norm = vae.get_submodule(path)
        by_frame = FrameGroupNorm(norm.num_groups, norm.num_channels, norm.eps, norm.affine).train(norm.training)
        by_frame.weight, by_frame.bias = norm.weight, norm.bias
        vae.set_submodule(path, by_frame)
    codec_of(vae).note_frame_norms()
    return MadeCausal(paths, before, leaks(maps._replace(z=maps.encode(maps.x).detach())))


def _norms_over_time(vae: nn.Module, maps: Maps) -> list[str]:
    """Paths of the GroupNorms that are given a clip, (B, C, T, H, W), when the model encodes or decodes."""
    pooling = set()

    def record(module: nn.Module, inputs: tuple) -> None:
        if isinstance(module, nn.GroupNorm) and not isinstance(module, FrameGroupNorm) and inputs[0].ndim == 5:
            pooling.add(module)

    with register_module_forward_pre_hook(record), torch.no_grad():
        maps.decode(maps.encode(maps.x))
    return [path for path, module in vae.named_modules() if module in pooling]
