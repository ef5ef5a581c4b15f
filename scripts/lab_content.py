"""Training clips for the bundled weights, made on the device that trains: layers of pictures that move by themselves.

All pictures lie in one atlas with all their smaller sizes. A clip is a background and up to MOST_LAYERS cut-outs over
it, each a picture under its own camera path: pan, zoom, turn, things that come closer, stretches without motion, cuts,
fades and motion blur. numpy draws the numbers, so that the same generator gives the same clips.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

MOST_LAYERS = 6
SUBSAMPLES = np.array(
    [(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)]
)  # places in a pixel: 2 x 2, averaged
PHOTO, WAVES, PLAIN, CUTOUT, SHAPE = range(5)
BACKGROUNDS = {PHOTO: 0.76, WAVES: 0.12, PLAIN: 0.12}


@dataclass
class Picture:
    """One square picture: RGBA uint8 (side, side, 4), a power of two; its kind decides what it is used for."""

    pixels: np.ndarray
    kind: int


def pictures(photos: Path, cutouts: Path, seed: int, side: int = 1024) -> list[Picture]:
    """Read photographs (one or two squares of each) and cut-outs, and draw shapes, letters, gradients and waves."""
    random = np.random.default_rng(seed)
    found = []
    for path in sorted(photos.glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        short = min(image.size)
        target = min(side, 2 ** round(math.log2(short)))
        far = max(image.size) - short
        for offset in [0, far] if far > 0.3 * short else [far // 2]:
            left, top = (offset, 0) if image.width > image.height else (0, offset)
            square = image.resize(
                (target, target), Image.Resampling.LANCZOS, box=(left, top, left + short, top + short)
            )
            found.append(Picture(_opaque(np.asarray(square)), PHOTO))
    for path in sorted(cutouts.glob("*.webp")):
        image, small = Image.open(path).convert("RGBA"), min(512, side)
        image.thumbnail((small * 7 // 8, small * 7 // 8))
        square = Image.new("RGBA", (small, small))
        square.paste(image, ((small - image.width) // 2, (small - image.height) // 2))
        found.append(Picture(np.asarray(square), CUTOUT))
    for number in range(96):
        found.append(Picture(_shape(random, number, min(256, side)), SHAPE))
    for _ in range(24):
        found.append(Picture(_gradient(random, 128), PLAIN))
    for _ in range(48):
        found.append(Picture(_waves(random, min(512, side)), WAVES))
    return found


def _opaque(rgb: np.ndarray) -> np.ndarray:
    return np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=2)


def _shape(random: np.random.Generator, number: int, side: int) -> np.ndarray:
    """Draw a white disc, box, polygon, bar or word on transparent ground, 4x supersampled; a third have two tones."""
    big = 4 * side
    mask, tone = Image.new("L", (big, big)), Image.new("L", (big, big), 255)
    draw, middle, radius = ImageDraw.Draw(mask), big / 2, big * 0.42
    kind = number % 6
    if kind == 0:
        squash = random.uniform(0.4, 1) if number % 12 else 1.0
        draw.ellipse([middle - radius, middle - radius * squash, middle + radius, middle + radius * squash], 255)
    elif kind == 1:
        squash = random.uniform(0.3, 1) if number % 12 != 1 else 1.0
        draw.rectangle([middle - radius, middle - radius * squash, middle + radius, middle + radius * squash], 255)
    elif kind == 2:
        angles = np.sort(random.uniform(0, 2 * np.pi, int(random.integers(3, 8))))
        draw.polygon([(middle + radius * np.cos(a), middle + radius * np.sin(a)) for a in angles], 255)
    elif kind == 3:
        thin = radius * random.uniform(0.04, 0.2)
        draw.rectangle([middle - radius, middle - thin, middle + radius, middle + thin], 255)
    elif kind == 4:
        for line in range(int(random.integers(1, 7))):
            letters = "".join(chr(code) for code in random.integers(ord("!"), ord("z"), int(random.integers(2, 9))))
            draw.text(
                (big * 0.08, big * (0.08 + 0.14 * line)), letters, 255, font_size=int(big * random.uniform(0.1, 0.3))
            )
    else:
        draw.ellipse([middle - radius, middle - radius, middle + radius, middle + radius], 255)
        inner = radius * random.uniform(0.3, 0.8)
        draw.ellipse([middle - inner, middle - inner, middle + inner, middle + inner], 0)
    if random.random() < 0.35:
        stripe = ImageDraw.Draw(tone)
        width = int(big * random.uniform(0.03, 0.2))
        for x in range(0, big, 2 * width):
            stripe.rectangle([x, 0, x + width, big], int(random.integers(0, 200)))
    planes = [np.asarray(image.reduce(4)) for image in (tone, mask)]
    return np.stack([planes[0], planes[0], planes[0], planes[1]], axis=2)


def _gradient(random: np.random.Generator, side: int) -> np.ndarray:
    """Blend four corner colours; a third are one flat colour, some of them black or white."""
    corners = random.uniform(0, 1, (2, 2, 3))
    if random.random() < 0.5:  # along the diagonal, between two colours
        corners[0, 1] = corners[1, 0] = (corners[0, 0] + corners[1, 1]) / 2
    if random.random() < 0.3:
        corners[:] = random.choice([0.0, 1.0, random.uniform()]) if random.random() < 0.5 else corners[0, 0]
    t = np.linspace(0, 1, side)[:, None]
    rows = corners[0][None] * (1 - t[:, None]) + corners[1][None] * t[:, None]
    image = rows[:, None, 0] * (1 - t[None]) + rows[:, None, 1] * t[None]
    return _opaque((image * 255).round().astype(np.uint8))


def _waves(random: np.random.Generator, side: int) -> np.ndarray:
    """Sum coloured waves, the long ones the strongest."""
    y, x = np.mgrid[:side, :side] / side
    count = int(random.integers(1, 25))
    turns = np.exp(random.uniform(np.log(0.5), np.log(24), count))  # periods across the picture
    angles, phases = random.uniform(0, 2 * np.pi, (2, count))
    colours = random.normal(0, 1, (count, 3)) / turns[:, None]
    total = sum(
        np.cos(2 * np.pi * n * (x * np.cos(a) + y * np.sin(a)) + p)[..., None] * c
        for n, a, p, c in zip(turns, angles, phases, colours, strict=True)
    )
    return _opaque((127.5 + 127.5 * np.tanh(random.uniform(0.5, 1.5) * total)).round().astype(np.uint8))


class Atlas:
    """All pictures at all sizes in one image (1, 4, H, W), float32, colours multiplied by alpha, 0 to 1."""

    def __init__(self, found: Sequence[Picture], device: torch.device | str):
        levels = []  # (side, picture, level, pixels)
        for number, picture in enumerate(found):
            pixels = torch.from_numpy(np.array(picture.pixels)).to(device).permute(2, 0, 1).float()[None] / 255
            pixels[:, :3] *= pixels[:, 3:]
            level = 0
            while pixels.shape[-1] >= 8:
                levels.append((pixels.shape[-1], number, level, pixels))
                pixels, level = F.avg_pool2d(pixels, 2), level + 1
        levels.sort(key=lambda entry: -entry[0])
        width = max(4096, levels[0][0])
        places, x, y, row = [], 0, 0, 0
        for side, *_ in levels:
            if x + side > width:
                x, y = 0, y + row
            row = side if x == 0 else row
            places.append((x, y))
            x += side
        image = torch.zeros(y + row, width, 4, device=device)
        self.levels = max(level for _, _, level, _ in levels) + 1
        self.left, self.top = np.zeros((2, len(found), self.levels))
        self.side = np.zeros(len(found))
        self.depth = np.zeros(len(found), dtype=int)
        for (side, number, level, pixels), (left, top) in zip(levels, places, strict=True):
            image[top : top + side, left : left + side] = pixels[0].permute(1, 2, 0)
            self.left[number, level], self.top[number, level] = left, top
            self.depth[number] = max(self.depth[number], level)
            if level == 0:
                self.side[number] = side
        self.image = image.permute(2, 0, 1)[None]  # channels last: the four values of a texel lie together
        kinds = np.array([picture.kind for picture in found])
        self.kinds = {kind: np.flatnonzero(kinds == kind) for kind in range(5)}


class ClipMaker:
    """Makes batches of clips (B, 3, T, S, S) in [-1, 1] on the atlas's device."""

    def __init__(self, atlas: Atlas, seed: int):
        self.atlas, self.random = atlas, np.random.default_rng(seed)
        self.device = atlas.image.device

    @torch.no_grad()
    def __call__(self, batch: int, num_frames: int, size: int) -> Tensor:
        random = self.random
        counts = np.where(random.random(batch) < 0.45, 0, np.minimum(1 + random.geometric(0.45, batch), MOST_LAYERS))
        many = random.random(batch) < 0.12
        counts[many] = MOST_LAYERS
        kinds = random.choice(list(BACKGROUNDS), batch, p=list(BACKGROUNDS.values()))
        ids = np.array([random.choice(self.atlas.kinds[kind]) for kind in kinds])
        shutter = np.where(random.random(batch) < 0.4, random.uniform(0, 0.8, batch), 0)
        times = self._times(batch, num_frames, shutter)  # (B, T, 4)
        camera = self._path(batch, times, still=0.22)
        texels = np.exp(random.uniform(np.log(0.6), np.log(7), batch)) * (128 / size) ** 0.5
        texels = np.where(
            kinds == PHOTO, texels * self.atlas.side[ids] / 1024 * random.uniform(0.8, 1.4, batch), texels
        )
        texels = np.where(kinds == PLAIN, 128 / size * random.uniform(0.3, 1.2, batch), texels)
        zoom = self._zoom(batch, times, random.random(batch) < 0.5, 0.015)
        frames = self._layer(ids, camera, texels, zoom, self._turn(batch, times), size, fold=True)
        frames = self._recolour(frames, batch, strong=kinds != PHOTO)[:, :3]
        for number in range(1, MOST_LAYERS + 1):
            chosen = np.flatnonzero(counts >= number)
            if len(chosen):
                over = self._cutouts(chosen, camera[chosen], times[chosen], size)
                where = torch.from_numpy(chosen).to(self.device)
                base = frames[where]
                frames[where] = base * (1 - over[:, 3:]) + over[:, :3]
        frames = frames.clamp(0, 1)
        frames = self._edit(frames, batch, num_frames)
        return self._colours(frames, batch, num_frames) * 2 - 1

    def _times(self, batch: int, num_frames: int, shutter: np.ndarray) -> np.ndarray:
        """Time of each frame and subsample, in frames; a tenth stop or start in the middle, a few repeat frames."""
        random = self.random
        t = np.repeat(np.arange(num_frames, dtype=float)[None], batch, 0)
        at, kind = random.uniform(0, max(num_frames - 1, 1), (batch, 1)), random.random((batch, 1))
        t = np.where(kind < 0.06, np.minimum(t, at), np.where(kind < 0.12, np.maximum(t, at), t))
        t = np.where((kind >= 0.12) & (kind < 0.17), np.floor(t * random.uniform(0.5, 0.9, (batch, 1))) * 1.3, t)
        return t[:, :, None] + (np.arange(4) / 4 - 0.375) * shutter[:, None, None]

    def _path(self, batch: int, times: np.ndarray, still: float) -> np.ndarray:
        """Displacement in output pixels (B, T, 4, 2): velocity, acceleration and a swing."""
        random = self.random
        moving = (random.random(batch) >= still)[:, None, None, None]
        angle = random.uniform(0, 2 * np.pi, batch)
        speed = np.exp(random.uniform(np.log(0.2), np.log(7), batch))  # pixels per frame
        velocity = (speed * np.array([np.cos(angle), np.sin(angle)])).T[:, None, None]
        acceleration = random.normal(0, 0.15, (batch, 1, 1, 2)) * (random.random((batch, 1, 1, 1)) < 0.4)
        swing = random.normal(0, 1, (batch, 1, 1, 2)) * np.exp(random.normal(-0.5, 1, (batch, 1, 1, 1)))
        turn, phase = random.uniform(0.1, 0.9, (batch, 1, 1, 1)), random.uniform(0, 2 * np.pi, (batch, 1, 1, 1))
        t = times[..., None]
        sway = swing * (np.sin(turn * t + phase) - np.sin(phase)) * (random.random((batch, 1, 1, 1)) < 0.5)
        return moving * (velocity * t + acceleration * t * t / 2 + sway)

    def _zoom(self, batch: int, times: np.ndarray, some: np.ndarray, rate: float) -> np.ndarray:
        rates = self.random.normal(0, rate, batch) * some
        return np.exp(rates[:, None, None] * times)

    def _turn(self, batch: int, times: np.ndarray) -> np.ndarray:
        random = self.random
        start = np.where(random.random(batch) < 0.25, random.normal(0, 0.4, batch), 0)
        rate = np.where(random.random(batch) < 0.25, random.normal(0, 0.02, batch), 0)
        return start[:, None, None] + rate[:, None, None] * times

    def _cutouts(self, chosen: np.ndarray, camera: np.ndarray, times: np.ndarray, size: int) -> Tensor:
        """One cut-out or shape for each chosen clip, RGBA multiplied by alpha (b, 4, T, S, S)."""
        random, batch, atlas = self.random, len(chosen), self.atlas
        flat = random.random(batch) < 0.5
        ids = np.where(flat, random.choice(atlas.kinds[SHAPE], batch), random.choice(atlas.kinds[CUTOUT], batch))
        span = size * np.exp(random.uniform(np.log(0.12), np.log(0.9), batch))  # pixels across
        texels = atlas.side[ids] / span
        own = self._path(batch, times, still=0.1)
        follow = (random.random(batch) < 0.5)[:, None, None, None] * random.uniform(0.8, 3, (batch, 1, 1, 1))
        path = np.where(follow > 0, camera * follow + 0.2 * own, own)
        middle = path[:, times.shape[1] // 2 : times.shape[1] // 2 + 1]
        path = path - middle + size * random.uniform(-0.55, 0.55, (batch, 1, 1, 2))  # on the screen in the middle
        zoom = self._zoom(batch, times, random.random(batch) < 0.3, 0.02)
        closer = random.random(batch) < 0.15  # comes closer, or goes away
        rate = np.where(closer, random.uniform(0.03, 0.12, batch) * np.where(random.random(batch) < 0.75, 1, -1), 0)
        zoom = zoom * np.exp(-rate[:, None, None] * (times - times.shape[1] / 2))
        turn = self._turn(batch, times) + (random.random(batch) < 0.5)[:, None, None] * random.uniform(
            0, 6.28, (batch, 1, 1)
        )
        # paths are of the camera: the layer moves the other way
        layer = self._layer(ids, -path, texels, zoom, turn, size, fold=False)
        return self._recolour(layer, batch, strong=flat)

    def _layer(
        self,
        ids: np.ndarray,
        path: np.ndarray,
        texels: np.ndarray,
        zoom: np.ndarray,
        turn: np.ndarray,
        size: int,
        fold: bool,
    ) -> Tensor:
        """Look at a picture from a path: (b, T, 4, 2) in pixels, texels per pixel (b,), zoom and turn (b, T, 4)."""
        atlas, random, batch, frames = self.atlas, self.random, len(ids), path.shape[1]
        side = atlas.side[ids]
        scale = np.broadcast_to(texels[:, None, None] * zoom, path.shape[:3])
        wanted = np.floor(np.log2(np.maximum(scale[..., :1], 1e-3)) - 0.35)  # a subsample is half a pixel wide
        level = np.clip(wanted, 0, atlas.depth[ids][:, None, None]).astype(int)
        # keeps the start of a background anywhere; a cut-out is centred
        centre = random.uniform(0, 1, (batch, 2)) * side[:, None] if fold else np.repeat(side[:, None] / 2, 2, 1)
        origin = centre[:, None, None] + path * texels[:, None, None, None] * (1 if fold else zoom[..., None])
        shrink = 0.5**level
        cos, sin = np.cos(turn) * scale * shrink, np.sin(turn) * scale * shrink
        sub = SUBSAMPLES
        x0 = origin[..., 0] * shrink + cos * sub[:, 0] - sin * sub[:, 1]
        y0 = origin[..., 1] * shrink + sin * sub[:, 0] + cos * sub[:, 1]
        left, top = atlas.left[ids[:, None, None], level], atlas.top[ids[:, None, None], level]
        packed = np.stack(np.broadcast_arrays(x0, y0, cos, sin, left, top, side[:, None, None] * shrink), -1)
        numbers = torch.from_numpy(packed.astype(np.float32)).to(self.device)  # (b, T, 4, 7)
        grid = torch.arange(size, device=self.device) + 0.5 - size / 2
        out = None
        height, width = atlas.image.shape[2:]
        for k in range(4):
            x0, y0, cos, sin, left, top, limit = (v[:, :, None, None] for v in numbers[:, :, k].unbind(-1))
            x = x0 + cos * grid - sin * grid[:, None]
            y = y0 + sin * grid + cos * grid[:, None]
            if fold:
                x, y = limit - (x.remainder(2 * limit) - limit).abs(), limit - (y.remainder(2 * limit) - limit).abs()
            x, y = (torch.minimum(v.clamp_min(0.5), limit - 0.5) for v in (x, y))
            places = torch.stack([(x + left) * (2 / width) - 1, (y + top) * (2 / height) - 1], -1)
            values = F.grid_sample(atlas.image, places.view(1, -1, size, 2), align_corners=False)
            out = values if out is None else out.add_(values)
        return (out / 4).view(4, batch, frames, size, size).transpose(0, 1)

    def _recolour(self, layer: Tensor, batch: int, strong: np.ndarray) -> Tensor:
        """Mix the colours of each layer by a random matrix; `strong` ones get any colour."""
        random = self.random
        matrix = np.repeat(np.eye(3)[None], batch, 0)
        order = np.stack([random.permutation(3) for _ in range(batch)])
        shuffled = np.eye(3)[order]
        matrix = np.where((random.random(batch) < 0.2)[:, None, None], shuffled, matrix)
        colour = random.uniform(0, 1, (batch, 3))
        vivid = random.random((batch, 3)) < 0.5
        colour = np.where((random.random(batch) < 0.4)[:, None] & vivid, np.round(colour), colour)
        matrix = np.where(strong[:, None, None], shuffled * colour[:, :, None], matrix)
        mixed = torch.from_numpy(matrix.astype(np.float32)).to(self.device)
        return torch.cat([torch.einsum("bij,bjthw->bithw", mixed, layer[:, :3]), layer[:, 3:]], 1)

    def _edit(self, frames: Tensor, batch: int, num_frames: int) -> Tensor:
        """Cut or fade a tenth of the clips to another, at any frame, and lay a few over another."""
        random = self.random
        kind, at = random.random(batch), random.integers(1, max(num_frames, 2), batch)
        if num_frames == 1:
            kind = np.where(kind < 0.2, 1.0, kind)
        share = np.zeros((batch, num_frames))  # of the other clip
        t = np.arange(num_frames)
        share[kind < 0.12] = (t >= at[:, None])[kind < 0.12]
        length = random.integers(2, 14, (batch, 1))
        share[(kind >= 0.12) & (kind < 0.16)] = np.clip((t - at[:, None] + length / 2) / length, 0, 1)[
            (kind >= 0.12) & (kind < 0.16)
        ]
        blended = (kind >= 0.2) & (kind < 0.24)
        share[blended] = random.uniform(0.2, 0.8, (batch, 1))[blended]
        chosen = np.flatnonzero(share.any(1))
        if not len(chosen):
            return frames
        where = torch.from_numpy(chosen).to(self.device)
        other = torch.from_numpy((chosen + 1 + random.integers(0, batch, len(chosen))) % batch).to(self.device)
        weight = torch.from_numpy(share[chosen].astype(np.float32)).to(self.device)[:, None, :, None, None]
        mixed = torch.lerp(frames[where], frames[other], weight)
        frames[where] = mixed
        return frames

    def _colours(self, frames: Tensor, batch: int, num_frames: int) -> Tensor:
        """Change saturation, contrast, brightness, tint and exposure of each clip, and flip it."""
        random = self.random
        saturation = np.where(random.random(batch) < 0.4, random.uniform(0, 1.9, batch), 1)
        matrix = saturation[:, None, None] * np.eye(3) + (1 - saturation)[:, None, None] / 3
        contrast = np.where(random.random(batch) < 0.5, np.exp(random.uniform(-0.6, 0.4, batch)), 1)
        shift = np.where(random.random(batch) < 0.5, random.uniform(-0.18, 0.18, batch), 0)
        tint = np.where((random.random(batch) < 0.2)[:, None], random.uniform(-0.12, 0.12, (batch, 3)), 0)
        drift = np.where(random.random(batch) < 0.1, random.normal(0, 0.2, batch), 0)
        gain = np.exp(drift[:, None] * np.linspace(0, 1, num_frames)) if num_frames > 1 else np.ones((batch, 1))
        matrix = torch.from_numpy((matrix * contrast[:, None, None]).astype(np.float32)).to(self.device)
        offset = torch.from_numpy((0.5 * (1 - contrast) + shift)[:, None].astype(np.float32) + tint.astype(np.float32))
        gain = torch.from_numpy(gain.astype(np.float32)).to(self.device)[:, None, :, None, None]
        frames = torch.einsum("bij,bjthw->bithw", matrix, frames) + offset.to(self.device)[:, :, None, None, None]
        frames = (frames * gain).clamp_(0, 1)
        for axis in (3, 4):
            chosen = torch.from_numpy(np.flatnonzero(random.random(batch) < 0.4)).to(self.device)
            frames[chosen] = frames[chosen].flip(axis)
        chosen = torch.from_numpy(np.flatnonzero(random.random(batch) < 0.2)).to(self.device)
        frames[chosen] = frames[chosen].transpose(3, 4)
        return frames
