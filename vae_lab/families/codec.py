"""One interface for every video VAE: a Codec has the same methods, whatever class the model is of.

    codec = codec_of(vae)                     # one of the lab's models, of diffusers' classes, or of registered ones
    z = codec.encode(x)                       # the mode of the latents; codec.posterior(x) is their distribution
    y = codec.decode(z, x.shape[2])
    codec.timeline(x.shape[2]).groups         # the frames that each latent frame stands for

To use a class of another library everywhere, declare once what differs from diffusers' usual interface:

    @register(MyVAE)
    class MyCodec(Codec):
        temporal_ratio = 2

        def decode(self, z, num_frames):
            return self.vae.decode(z, steps=4)
"""

import copy
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import accumulate, chain, islice, pairwise
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import diffusers
import torch
from accelerate.utils.modeling import get_state_dict_offloaded_model
from torch import Tensor, nn

from ..gaussian import at_least_float32
from ..shapes import Timeline
from ..spatial_vae import SpatialVAE
from ..streaming import StreamingDecoder, StreamingEncoder
from ..temporal_vae import TemporalVAE
from ..utils.checks import check_dtype, check_multiples, check_video, positive_int, torch_seed
from ..utils.files import hash_weights
from ..utils.text import count, first_line, nearest
from ..utils.wrapping import arguments_of, plain_key, unwrapped
from ..video_vae import VideoVAE, with_config
from .records import Family
from .streams import UnitDecoder, UnitEncoder, Units
from .structure import structure_of
from .table import FAMILIES, family_named

TRIED = 40  # frames beyond a refused length among which one that the model keeps is looked for


_NO_CONFIG: Mapping[str, Any] = MappingProxyType({})  # the same one each time, by which `_MEASURED` knows a model
_RATIOS = "spatial_compression_ratio", "temporal_compression_ratio"  # attributes that some classes have; some are wrong
_MEASURED: "WeakKeyDictionary[nn.Module, tuple[Mapping, Family | None, _Measured]]"
_MEASURED = WeakKeyDictionary()  # model -> its config and family, and what `Codec._measured` measured of it
_MEASURED_ALIKE: "dict[tuple, tuple[Family | None, _Measured]]" = {}  # the same, by Codec and `structure_of` the model


class _Measured(NamedTuple):
    family: Family | None  # None if nothing is known of the class, or if the model has another law
    spatial_ratio: int | None
    temporal_ratio: int | None
    channels: int | None = None  # of latents
    mistake: str = ""  # what the family's record is wrong about


class LatentAndSample(NamedTuple):
    """The mode of a clip's latents (B, C, L, h, w), and the clip as the model decodes them."""

    latent: Tensor
    sample: Tensor


class Streams(NamedTuple):
    """An encoder and a decoder that take one clip piece by piece.

    A family's own streams need these methods: `encode(x)`, whose `.latent_dist.mode()` are the latents that x
    completes; `decode(z)`, whose `.sample` are the frames of z; `state_dict` and `load_state_dict`. Those of a model
    with halves also need `encode_spatial_latent` and `decode_spatial_latent`.
    """

    encoder: Any
    decoder: Any
    lengths: list[int] | None = None
    """Lengths of pieces whose frames the decoder returns at once; None: pieces of whole groups are such."""
    exact: bool = True
    """Whether `reconstruct` may use them: whether they give what one call gives, as far as the model promises it."""


class Halves(NamedTuple):
    """The two parts of a model that first encodes each frame alone, then compresses time."""

    spatial: nn.Module
    """The 2D part, itself a video VAE: pixels <-> spatial latents (B, C, T, h, w)."""
    temporal: nn.Module
    """The part that compresses time, itself a video VAE: spatial latents <-> latents."""
    posterior: Callable[[Tensor], Any]
    """Spatial latents -> posterior of the latents, in the chunks of the whole model."""
    decode: Callable[[Tensor, int], Tensor]
    """(latents, num_frames) -> spatial latents, in the chunks of the whole model."""


class Codec:
    """A video VAE with diffusers' usual interface; `codec_of` makes it.

    A family of models that differs has a subclass, which `register` ties to the models' class: it overrides methods and
    properties, by class attributes if they are constant.
    """

    takes: Literal["pixels", "spatial latents"] = "pixels"
    """What the model encodes: pixels in [-1, 1], or latents of a 2D VAE, which are roughly standard normal."""
    law: Callable[[int, int, int | None], Timeline] = Timeline
    """How frames belong to latent frames: makes a Timeline of (num_frames, temporal ratio, chunk)."""
    any_length: bool = False
    """Whether clips of every length keep their number of frames. diffusers' classes keep only certain lengths."""
    frame_by_frame: bool = False
    """Whether each frame is encoded alone, so that a clip can be cut anywhere."""

    def __init__(self, vae: Any):
        self.vae = vae
        self.name = type(vae).__name__

    @property
    def config(self) -> Mapping[str, Any]:
        """The model's config; empty if it has none."""
        return getattr(self.vae, "config", _NO_CONFIG)

    @property
    def device(self) -> torch.device:
        """The device of the model's inputs."""
        device = getattr(self.vae, "device", None) or next(self.vae.parameters()).device
        return torch.device(self._accelerate_device) if device.type == "meta" and self.offloaded else device

    @property
    def _accelerate_device(self) -> Any:
        hooks = [getattr(module, "_hf_hook", None) for module in getattr(self.vae, "modules", list)()]
        hooks += [part for hook in hooks for part in getattr(hook, "hooks", ())]
        return next((d for hook in hooks if (d := getattr(hook, "execution_device", None)) is not None), None)

    @property
    def offloaded(self) -> bool:
        """Whether accelerate keeps the weights elsewhere, and moves them in for each call."""
        return self._accelerate_device is not None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the model's inputs."""
        return getattr(self.vae, "dtype", None) or next(self.vae.parameters()).dtype

    @property
    def in_channels(self) -> int:
        """Channels of the clips that the model encodes."""
        config = self.config
        return config.get("out_channels") or config.get("in_channels") or 3  # Mochi's in_channels are features

    @property
    def _measured(self) -> _Measured:
        """What is measured once for a model's config."""
        family = family_of(self.vae)
        if not isinstance(self.vae, nn.Module):
            return self._measure(family)
        known = _MEASURED.get(self.vae)
        if known is None or known[0] is not self.config or known[1] is not family:
            known = _MEASURED[self.vae] = self.config, family, self._measured_alike(family)
            if known[2].mistake:
                warnings.warn(known[2].mistake, stacklevel=2)
        return known[2]

    def _measured_alike(self, family: Family | None) -> _Measured:
        """What was measured of a model that makes the same shapes, if one was. Only what could be measured is kept."""
        structure = structure_of(self.vae)
        if structure is None:
            return self._measure(family)
        key = type(self), *structure
        known = _MEASURED_ALIKE.get(key)
        if known is None or known[0] is not family:
            known = family, self._measure(family)
            if known[1].channels:
                _MEASURED_ALIKE[key] = known
        return known[1]

    def _measure(self, family: Family | None) -> _Measured:
        """Encode clips on meta tensors, and decode one. A family whose record is wrong about it is dropped."""
        pixels, made, wrong = 64, {}, ""
        if family:
            pixels = max(pixels, 2 * family.spatial_ratio)
            pixels = max(pixels, self.smallest_side) if type(self).spatial_ratio is not Codec.spatial_ratio else pixels
        for num_frames in family.nearest_legal(2 * family.temporal_ratio + 1)[-1:] if family else (1, 17, 33, 49):
            shape = 1, self.in_channels, num_frames, pixels, pixels
            try:
                z = self.encoded_shape(shape)
                if z and z[-1] and not pixels % z[-1]:
                    made[num_frames] = z
                if not family or not z:
                    continue
                expected = family.latent_frames(num_frames)
                back = self._shape_of("decode", z, num_frames, explain=False)  # the reason is not measured yet
                if z[2] != expected:
                    wrong = f"makes {count(z[2], 'latent frame')} of {count(num_frames, 'frame')}, not {expected}"
                elif back not in (None, shape):
                    wrong = f"decodes them to shape {back}, of clips of shape {shape}"
            except ValueError as error:  # a size or length that this model does not take
                wrong = str(error)
        if family and wrong:
            what = f"this {self.name} is no {family.name} as the lab knows it"
            mistake = f"{what}, so nothing is taken from that record: {wrong}"
            return self._measure(None)._replace(mistake=mistake)
        if not made:
            if family:
                return _Measured(family, family.spatial_ratio, family.temporal_ratio, None)
            told = [self.config[n] if n in self.config else getattr(self.vae, n, None) for n in _RATIOS]
            return _Measured(None, told[0], told[1])
        *_, z = made.values()
        if family:
            return _Measured(family, pixels // z[-1], family.temporal_ratio, z[1])
        ratios = [ratio for ratio in range(1, 33) if self._has_ratio(ratio, made)]
        return _Measured(None, pixels // z[-1], max(ratios, default=None), z[1])

    def _has_ratio(self, ratio: int, made: Mapping[int, Sequence[int]]) -> bool:
        chunk = None if type(self).chunk is Codec.chunk else self.chunk
        return all(type(self).law(n, ratio, chunk).num_latents == z[2] for n, z in made.items())

    @property
    def latent_channels(self) -> int | None:
        """Channels of the latents; None if unknown."""
        return self._measured.channels

    @property
    def family(self) -> Family | None:
        """What is known of models of this class and config; None if nothing is, or if this one has another law."""
        return self._measured.family

    @property
    def spatial_ratio(self) -> int | None:
        """Pixels per latent cell along height and along width; None if unknown.

        It is measured: diffusers' classes have no common name for it, and LTX's attribute says 64 where 32 is true.
        """
        return self._measured.spatial_ratio

    @property
    def temporal_ratio(self) -> int | None:
        """Frames per latent frame; None if unknown: then `timeline` derives it from the number of latent frames.

        It is measured if the model has no family: of 1 to 32, the largest that makes as many latent frames as the model
        of 17, 33 and 49 frames.
        """
        return self._measured.temporal_ratio

    @property
    def chunk(self) -> int | None:
        """Frames in each independently encoded chunk; None if all frames are encoded at once."""
        return self.family.chunk if self.family else None

    @property
    def smallest_side(self) -> int:
        """The smallest height and width, in pixels or in cells of 2D latents, of square clips that the model takes."""
        return self.spatial_ratio or 1

    @property
    def halves(self) -> Halves | None:
        """The 2D part and the part that compresses time; None if the model does not consist of these."""
        return None

    def posterior(self, x: Tensor) -> Any:
        """Encode a clip (B, in_channels, T, H, W) to the distribution of its latents, such as DiagonalGaussian."""
        return self.vae.encode(x).latent_dist

    def encode(self, x: Tensor) -> Tensor:
        """Encode a clip (B, in_channels, T, H, W) to the mode of its latents (B, C, L, h, w)."""
        return self.posterior(x).mode()

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        """Decode raw latents (B, C, L, h, w) to (B, in_channels, T, H, W); T is num_frames if the model keeps it."""
        return self.vae.decode(z).sample

    def reconstruct(self, x: Tensor) -> LatentAndSample:
        """Encode and decode a clip.

        Raises ValueError if the model fails on it, or does not keep its shape. The error names the nearest lengths that
        it keeps, or the smallest size that it takes.
        """
        if self.family:
            self.check_clip(x)
        else:
            check_video("x", x)
        self.check_length(x.shape[2])
        try:
            z = self.encode(x)
            y = self.decode(z, x.shape[2])
        except Exception as error:  # other libraries raise anything on sizes that they do not take
            frames, height, width = x.shape[2:]
            reason = self.too_small(x) or (str(error) or type(error).__name__) + self._advice(x)
            if "not implemented for" in str(error):
                reason = f"torch lacks an operation for {x.dtype} on {x.device.type} ({first_line(error)}): use float32"
            message = f"{self.name} failed on {count(frames, 'frame')} of {height}x{width}: {reason}"
            raise ValueError(message) from error
        if y.shape != x.shape:
            raise ValueError(
                f"{self.name} turned a clip of shape {tuple(x.shape)} into {tuple(y.shape)}{self._advice(x)}"
            )
        return LatentAndSample(z, y)

    def check_clip(self, x: Tensor) -> None:
        """Refuse a clip of channels, a dtype or a size that classes fail on: some of them stay broken afterwards."""
        check_video("x", x, self.in_channels)
        check_dtype("x", x, self.dtype)
        check_multiples(x.shape[3:], self.spatial_ratio or 1, f"{self.name}'s spatial ratio")

    def check_length(self, num_frames: int) -> None:
        """Raise ValueError if the family is known not to keep clips of that length; it names the nearest kept ones."""
        num_frames = positive_int("num_frames", num_frames)
        if not self.any_length and self.family and not self.family.is_legal(num_frames):
            raise ValueError(f"{self.name} ({self.family.name}) {self.family.fate(num_frames)}")

    def kept_lengths(self, num_frames: int) -> Sequence[int]:
        """Return the length if the model keeps it, else the nearest ones below and above; none if they are unknown."""
        num_frames = positive_int("num_frames", num_frames)
        if self.any_length:
            return [num_frames]
        if self.family:
            return self.family.nearest_legal(num_frames)
        side = 2 * self.smallest_side
        return self.nearest_lengths(torch.empty(1, self.in_channels, num_frames, side, side, device="meta"))

    def nearest_lengths(self, x: Tensor) -> list[int]:
        """Return the nearest lengths, below and above, that the model keeps for clips like x, found without weights."""
        found: list[int] = []
        for lengths in (range(x.shape[2], 0, -1), range(x.shape[2] + 1, x.shape[2] + TRIED)):
            found += islice((n for n in lengths if self._keeps((1, x.shape[1], n, *x.shape[3:]))), 1)
        return found

    def _keeps(self, shape: tuple[int, ...]) -> bool:
        """Whether a clip of this shape comes back in it; False too if that cannot be found without weights."""
        try:
            z = self.encoded_shape(shape)
            return z is not None and self.decoded_shape(z, shape[2]) == shape
        except ValueError:  # the model does not take it
            return False

    def too_small(self, x: Tensor) -> str:
        """Say so if the model takes clips like x of two latent cells or more a side, which some need for padding."""
        ratio = self.spatial_ratio or 1
        least = 2 * ratio
        shape = (*x.shape[:3], *(max(side, least) for side in x.shape[3:]))
        if shape == x.shape or any(side % ratio for side in x.shape[3:]):
            return ""
        return f"height and width must be at least {least}, two latent cells" if self._keeps(shape) else ""

    def _advice(self, x: Tensor) -> str:
        if self.family and self.family.is_legal(x.shape[2]):
            return ""
        lengths = [length for length in self.nearest_lengths(x) if length != x.shape[2]]
        return f"; {nearest(lengths)}" if lengths else ""

    def encoded_shape(self, shape: Sequence[int]) -> tuple[int, ...] | None:
        """Return the shape of a clip's latents, without weights or computation; None if it is unknown.

        Raises ValueError if the model does not take clips of that shape.
        """
        return self._shape_of("encode", shape)

    def decoded_shape(self, shape: Sequence[int], num_frames: int) -> tuple[int, ...] | None:
        """Return the shape that latents of a shape decode to, without weights or computation; None if it is unknown.

        Raises ValueError if the model does not take such latents.
        """
        return self._shape_of("decode", shape, num_frames)

    def trial_posterior(self, shape: Sequence[int]) -> Any:
        """Return the posterior of a clip of a shape, without weights or computation; None if it cannot be made so.

        Raises ValueError if the model does not take clips of that shape.
        """
        return self._on_meta("posterior", shape)

    def _shape_of(self, method: str, shape: Sequence[int], *more: int, explain: bool = True) -> tuple[int, ...] | None:
        output = self._on_meta(method, shape, *more, explain=explain)
        return None if output is None else tuple(output.shape)

    def _on_meta(self, method: str, shape: Sequence[int], *more: int, explain: bool = True) -> Any:
        """Call a method on meta tensors. None if the model is no torch module, needs more, or depends on values.

        explain: say why latents cannot be decoded, by what is measured of the model.
        """
        if not isinstance(self.vae, nn.Module):
            return None
        x = torch.empty(tuple(shape), device="meta", dtype=self.dtype)
        try:
            if self._without_weights is None:
                return None
            with torch.no_grad():
                return getattr(self._without_weights, method)(x, *more)
        except (RuntimeError, ValueError, AssertionError) as error:
            del self._without_weights  # some classes stay broken after a length that they refuse
            if isinstance(error, NotImplementedError) or "meta" in str(error):
                return None
            verb, what, reason = "encode", "clips", first_line(error)
            if method == "decode":
                verb, what, reason = "decode", "latents", (explain and self._why_not(shape)) or reason
            raise ValueError(
                f"vae must {verb} {what} of shape {tuple(shape)}, but {self.name} fails on them: {reason}"
            ) from None
        except Exception:  # the call itself will show what is missing
            del self._without_weights
            return None

    def _why_not(self, shape: Sequence[int]) -> str:
        """Say why the model cannot decode latents of a shape, if that is known."""
        family, channels = self.family, self.latent_channels
        if channels not in (None, shape[1]):
            return f"its latents have {channels} channels, so these are of another family"
        if family is None or family.law.decoded is None:
            return ""
        lengths = family.nearest_legal(shape[2] * family.temporal_ratio)
        near = [f"{family.latent_frames(length)} ({count(length, 'frame')})" for length in lengths]
        return f"nearest number{'s' * (len(near) > 1)} of latent frames that it decodes: {' and '.join(near)}"

    @cached_property
    def _without_weights(self) -> "Codec | None":
        """A Codec of a copy of the model on the meta device; None if the model cannot be copied."""
        modules: list[nn.Module] = list(getattr(self.vae, "modules", list)())
        hooked = any(hasattr(module, "_diffusers_hook") or hasattr(module, "_hf_hook") for module in modules)
        if hooked and isinstance(self.vae, diffusers.ModelMixin):
            with suppress(Exception), torch.device("meta"):  # a copy would have the hooks too, which move real weights
                return type(self)(type(self.vae).from_config(self.vae.config).to(self.dtype).eval())
            return None
        return self._copy(lambda value: torch.empty_like(value, device="meta", requires_grad=False))

    def fresh(self) -> "Codec":
        """Return a Codec of a copy of the model that has the same weights, in the same memory.

        Some classes stay broken after a length that they refuse: what they keep between calls is not shared. A model
        that cannot be copied, such as one whose caches hold gradients, is returned itself.
        """
        codec = None if self.offloaded else self._copy(lambda value: value)
        if codec is None:
            return self
        _MEASURED[codec.vae] = codec.config, family_of(codec.vae), self._measured
        return codec

    def _copy(self, weight: Callable[[Tensor], Tensor]) -> "Codec | None":
        if not isinstance(self.vae, nn.Module):
            return None
        weights = chain(self.vae.named_parameters(), self.vae.named_buffers())
        try:
            return type(self)(copy.deepcopy(self.vae, {id(value): weight(value) for _, value in weights}))
        except Exception:  # whatever a class keeps
            return None

    def stream(self, num_frames: int, chunked: bool | None = None) -> Streams:
        """Make streams that encode and decode a clip of num_frames piece by piece.

        `reconstruct` uses them, so that memory does not grow with the clip: one chunk, or whole groups, at a time.
        chunked: encode each chunk alone, when it is complete. Default: True if the model has chunks.
        Raises ValueError with the reason if the model cannot be streamed, or does not keep num_frames.
        """
        self.check_length(num_frames)
        kept = [num_frames] if self.family else self.kept_lengths(num_frames)
        if kept and num_frames not in kept:
            raise ValueError(f"{self.name} does not keep {count(num_frames, 'frame')}; {nearest(kept)}")
        if chunked not in (None, self.chunk is not None):
            raise ValueError(f"chunked must be {self.chunk is not None} for {self.name}, got {chunked!r}")
        units = self.units(num_frames)
        if units is None:
            raise ValueError(f"{self.name} cannot be streamed: {self._why_in_one_piece()}")
        stops = [group.stop for group in self.timeline(num_frames).groups]
        common = {0, *accumulate(units.frames)} & {0, *(stops[n - 1] for n in accumulate(units.latents))}
        return Streams(
            UnitEncoder(self, num_frames, units.frames, units.encode),
            UnitDecoder(self, num_frames, units.latents, units.decode),
            [stop - start for start, stop in pairwise(sorted(common))],
            units.exact,
        )

    def units(self, num_frames: int) -> Units | None:
        """Return how the class computes a clip piece by piece, for `stream`; None if no call can continue another."""
        return None

    def check_untiled(self) -> None:
        """Raise ValueError if the model computes in tiles, which its streams do not."""
        if getattr(self.vae, "use_tiling", False):
            raise ValueError(f"{self.name} cannot be streamed in tiles: call vae.disable_tiling() first")

    def _why_in_one_piece(self) -> str:
        """Say why the model takes a clip in one piece."""
        for what, name in (("latent", "encoder_sees"), ("decoded frame", "decoder_sees")):
            reach = getattr(self.family, name, None)
            if reach and reach.whole:
                return f"each {what} depends on {reach.text}"
        return "it takes a clip in one piece, because its class has no way to continue an earlier call"

    def timeline(self, num_frames: int, latent_frames: int | None = None) -> Timeline:
        """Return which frames each latent frame stands for; the model computes nothing.

        latent_frames: number of latent frames, if it is known. It is checked, and needed if `temporal_ratio` is None.
        Raises ValueError if the model does not keep clips of num_frames, if these do not have latent_frames, or if the
        ratio stays unknown.
        """
        num_frames, ratio, law = positive_int("num_frames", num_frames), self.temporal_ratio, type(self).law
        self.check_length(num_frames)
        if self.family and law is Codec.law:
            law = self.family.law.timeline
        if latent_frames is None:
            if ratio is None:
                raise ValueError(f"the temporal ratio of {self.name} is unknown: pass latent_frames")
            return law(num_frames, ratio, self.chunk)
        ratios = range(1, num_frames + 1) if ratio is None else [ratio]
        timelines = [law(num_frames, ratio, self.chunk) for ratio in ratios]
        fitting = [timeline for timeline in timelines if timeline.num_latents == latent_frames]
        if len(fitting) != 1:
            raise ValueError(
                f"{self.name} made {latent_frames} latent frames of {num_frames} frames, so it is unknown which frames "
                f"each stands for (temporal ratio {ratio or 'unknown'}); take another length"
            )
        return fitting[0]

    def statistics(self, shape: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """Return (mean, std) of raw latents (C, L, h, w), which broadcast over them; None if the model has none.

        Normalised latents, which diffusion models get, are (z - mean) / std. Most families have one number a channel,
        the `mean_std`. Cosmos has one for each latent frame too, and Flux2 for each place in patches of 2x2 cells.
        """
        known = self.mean_std(latent_shape(shape)[0])
        return known and (known[0].view(-1, 1, 1, 1), known[1].view(-1, 1, 1, 1))

    def mean_std(self, channels: int) -> tuple[Tensor, Tensor] | None:
        """Return (mean, std), each (channels,), which the model assumes for its raw latents; None if unknown.

        Normalised latents are (z - mean) / std. diffusers' pipelines compute (z - mean) * scaling_factor / std, with
        latents_mean or shift_factor, latents_std and scaling_factor from the config or from buffers. A family with
        several numbers a channel (see `statistics`) has the mean and std over all of them here.
        """
        positive_int("channels", channels)
        known = dict(self.vae.named_buffers()) if isinstance(self.vae, nn.Module) else {}
        known |= {name: value for name, value in self.config.items() if value is not None}
        names = {"latents_mean", "latents_std", "shift_factor", "scaling_factor"} & known.keys()
        given = {name: numbers(name, known[name]) for name in names}
        if not given:
            return None
        mean = given.get("latents_mean", given.get("shift_factor", torch.zeros(1)))
        std, factor = given.get("latents_std", torch.ones(1)), given.get("scaling_factor", torch.ones(1))
        if any(len(values) not in (1, channels) for values in (mean, std, factor)):
            return None
        return mean.expand(channels), (std / factor).expand(channels)

    def identity(self) -> str:
        """Return a hash of the class, the dtype, the config and every weight."""
        what = [self.name, str(self.dtype), arguments_of(self.config)]
        digest = hashlib.sha256(json.dumps(what, default=str, sort_keys=True).encode())
        state = get_state_dict_offloaded_model(self.vae) if self.offloaded else self.vae.state_dict()
        hash_weights(digest, {plain_key(name): value for name, value in state.items()})
        return digest.hexdigest()

    def with_chunk(self, chunk: int | None) -> nn.Module:
        """Return the model with another chunk length (None: one piece). Raises ValueError if it cannot be changed."""
        if chunk != self.chunk:
            raise ValueError(f"the chunk length of {self.name} cannot be changed")
        return self.vae

    def calibrated(self, z: Tensor) -> nn.Module:
        """Return a model with the same weights, and the statistics of raw latents z: scaling factor, or mean and std.

        This model keeps its own. Device, dtype and mode are the same. A model without a scaling_factor returns itself.
        """
        if "scaling_factor" not in self.config:
            return self.vae
        return with_config(self.vae, scaling_factor=1 / at_least_float32(z).std().item())

    def note_frame_norms(self) -> None:
        """Record in the config that every norm now has separate statistics for each frame, so that saving keeps it."""


def latent_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a clip's latents, (C, L, h, w), without the batch. Raises ValueError for another one."""
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 4:
        raise ValueError(f"shape must be (C, L, h, w), without the batch, got {shape!r}")
    return tuple(positive_int("shape", side) for side in shape)


def numbers(name: str, value: Any) -> Tensor:
    """Return an entry of a config, or a buffer, as float32 (n,).

    Raises ValueError if one of its numbers is not finite, or is 0 and divides latents.
    """
    try:
        values = torch.as_tensor(value, dtype=torch.float32).flatten()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} of the model must be numbers, got {value!r}") from None
    divides = not name.endswith(("mean", "shift_factor"))
    if values.is_meta:
        return values
    if not values.isfinite().all() or (divides and not values.all()):
        rule = "finite and not 0" if divides else "finite"
        raise ValueError(f"{name} of the model must be {rule}, got {values.tolist()}")
    return values


_REGISTERED: dict[str, tuple[type, type[Codec]]] = {}  # name of a class -> the class and its Codec


def register(cls: type) -> Callable[[type[Codec]], type[Codec]]:
    """Decorate a Codec to make it that of a class: the whole lab works with its models, and `load` reads their folders.

    Subclasses of `cls` that are not registered use it too. Registering a class again replaces its Codec.

    Raises ValueError if another class has the same name, because a checkpoint contains only the name of its class.
    """
    if not isinstance(cls, type):
        raise ValueError(f"register needs the class of the models, got {cls!r}")
    known = class_named(cls.__name__)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"another class is named {cls.__name__}, in {known.__module__}: rename one of them")

    def add(codec: type[Codec]) -> type[Codec]:
        if not isinstance(codec, type) or not issubclass(codec, Codec):
            raise ValueError(f"register must decorate a subclass of Codec, got {codec!r}")
        _REGISTERED[cls.__name__] = cls, codec
        return codec

    return add


def _imported(path: str | type) -> Any:
    return resolve_name(":".join(path.rsplit(".", 1))) if isinstance(path, str) else path


def class_named(name: object) -> type | None:
    """Return the class of that name: registered, of a known family, or one of diffusers' autoencoders; None if none."""
    if not isinstance(name, str):
        return None
    if name in _REGISTERED:
        return _REGISTERED[name][0]
    path = next((family.cls for family in FAMILIES.values() if family.class_name == name), None)
    return _imported(path) if path else getattr(diffusers, name, None) if "Autoencoder" in name else None


def tiny_model(family: str, seed: int = 0) -> nn.Module:
    """Return a small model of a family with random weights, in eval mode. It needs no file.

    No parameter is zero, as some are before training: a dependence would stay hidden behind them.
    Raises ValueError if the family is not known.
    """
    record = family_named(family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed))
        try:
            cls = _imported(record.cls)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"the class of {record.name}, {record.cls}, cannot be imported: {error}") from error
        try:
            vae = cls(**record.tiny).eval()
        except Exception as error:  # classes raise anything
            raise ValueError(f"tiny of {record.name} makes no {record.class_name}: {first_line(error)}") from error
        for parameter in vae.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return vae


def family_of(vae: Any) -> Family | None:
    """Return the family of a model, by its class, or a base class, and its config; None if it is not known."""
    config = getattr(vae, "config", {})
    for cls in type(vae).__mro__:
        for family in FAMILIES.values():
            if family.class_name == cls.__name__ and class_named(cls.__name__) is cls and family.matches(config):
                return family
    return None


def codec_of(vae: Any) -> Codec:
    """Return the Codec of a model: that of its class or of a base class, else diffusers' usual interface.

    Of a model that `torch.compile` or data parallelism wraps, it is that of the model inside. A Codec returns itself.
    Raises ValueError if the model has no such interface either.
    """
    if isinstance(vae, Codec):
        return vae
    vae = unwrapped(vae)
    for cls in type(vae).__mro__:
        known, codec = _REGISTERED.get(cls.__name__, (None, Codec))
        if known is cls:
            return codec(vae)
    family = family_of(vae)
    if family is not None and family.codec:
        return _imported(family.codec)(vae)
    decode, config, device, dtype = (getattr(vae, name, None) for name in ("decode", "config", "device", "dtype"))
    if not callable(decode) or not hasattr(config, "get") or device is None or dtype is None:
        raise ValueError(
            f"vae must be a video VAE with diffusers' interface, such as `load` reads, got {type(vae).__name__}"
        )
    return Codec(vae)


class _Lab(Codec):
    """The lab's models. Their decoders take num_frames, so they keep every length."""

    any_length = True

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        return self.vae.decode(z, num_frames).sample

    def _measure(self, family: Family | None) -> _Measured:
        """Return what the lab's own classes say of themselves. Classes derived from them are measured."""
        halves = [getattr(self.vae, name, self.vae) for name in ("spatial", "temporal")]
        if any(type(part) not in (SpatialVAE, TemporalVAE, VideoVAE) for part in (self.vae, *halves)):
            return super()._measure(family)
        spatial, temporal = (getattr(self.vae, f"{name}_compression_ratio", 1) for name in ("spatial", "temporal"))
        return _Measured(family, spatial, temporal, halves[1].config.latent_channels)

    @cached_property
    def _without_weights(self) -> "Codec | None":
        codec = super()._without_weights
        for module in codec.vae.modules() if codec else ():
            if isinstance(module, SpatialVAE):  # there is no memory to save, so it takes all frames at once
                module.register_to_config(micro_batch_size=None)
        return codec


@register(SpatialVAE)
class _Spatial(_Lab):
    temporal_ratio = 1
    frame_by_frame = True

    def mean_std(self, channels: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(channels), torch.ones(channels)  # encode scales them already

    def calibrated(self, z: Tensor) -> SpatialVAE:
        return self.vae.with_scaling_factor(self.vae.config.scaling_factor / at_least_float32(z).std().item())


class _Temporal(_Lab):
    """TemporalVAE, and VideoVAE, which contains one."""

    def stream(self, num_frames: int, chunked: bool | None = None) -> Streams:
        chunked = self.chunk is not None if chunked is None else chunked
        return Streams(StreamingEncoder(self.vae, num_frames, chunked), StreamingDecoder(self.vae, num_frames, chunked))


@register(TemporalVAE)
class _TemporalAlone(_Temporal):
    takes = "spatial latents"

    def note_frame_norms(self) -> None:
        self.vae.register_to_config(norm="frame_group")


@register(VideoVAE)
class _Stack(_Temporal):
    @property
    def chunk(self) -> int | None:
        return self.vae.config.micro_frame_size

    @property
    def halves(self) -> Halves:
        return Halves(
            self.vae.spatial,
            self.vae.temporal,
            lambda spatial_latent: self.vae.encode_spatial_latent(spatial_latent).latent_dist,
            lambda z, num_frames: self.vae.decode_spatial_latent(z, num_frames).sample,
        )

    def mean_std(self, channels: int) -> tuple[Tensor, Tensor]:
        return self.vae.shift.flatten(), self.vae.scale.flatten()

    def with_chunk(self, chunk: int | None) -> VideoVAE:
        return self.vae.with_micro_frame_size(chunk)

    def calibrated(self, z: Tensor) -> VideoVAE:
        z = at_least_float32(z)
        return self.vae.with_statistics(z.mean((0, 2, 3, 4)).tolist(), z.std((0, 2, 3, 4)).tolist())

    def note_frame_norms(self) -> None:
        codec_of(self.vae.temporal).note_frame_norms()
        self.vae.register_to_config(temporal_config={**(self.vae.config.temporal_config or {}), "norm": "frame_group"})
