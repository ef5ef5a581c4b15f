"""Right answers to all questions of the notebooks, and measurements for those that depend on one."""

import numpy as np
import torch
from scipy import stats

from vae_lab.ablation.config import TrialConfig
from vae_lab.lessons import Check, question
from vae_lab.training.config import Stage

MEASURED = {
    "worst frame of the clip": [[23.0, 24.0, 20.0]],
    "padding and the first frame": [{0: -2.0, 1: -0.1, 2: 0.0, 3: 0.1}],
    "mend a short chunk": [torch.zeros(1, 3, 18, 2, 2), torch.ones(1, 3, 18, 2, 2)],
    "which half": [{"2D only": 2.0, "full": 3.0}],
    "best place in a chunk": [[1.1, 4.0, 2.0]],
    "jump of a static clip": [[0.1] * 6 + [0.9] + [0.1] * 3],
    "step of channels": [{4: 24.0, 8: 29.0, 16: 31.0}],
    "moved by the last frame": [[0, 1, 2, 3, 4]],
    "which module": ["GroupNorm"],
    "planted convolution": ["encoder.down_blocks.1.resnets.0.conv2"],
    "quality after the swap": [{"as trained": 24.0, "norms swapped": 23.0}],
    "moved in cogvideox": [[3, 4]],
    "channel that forgets fastest": [[0.9, 0.8, 0.7, 0.2]],
    "cheapest channel": [[0.3, 0.3, 0.4, 0.1]],
    "frames that a cell paints": [[0, 16]],
    "frames painted without the leak": [[5, 16]],
    "cheapest movement": [{"shift by a cell": 0.1, "shift by half a cell": 1.0, "turn by 90 degrees": 2.0}],
    "halfway between two clips": [[0.0, 0.04, 0.0], 0.6],
    "largest jump of a still": [[0.1] * 16 + [0.4] + [0.1] * 16 + [0.5] + [0.1], [0, 17, 34]],
    "identity": [{"with": 17.0, "without": 8.0}],
    "drift": [0.02, 0.18],
    "least visible channel": [[0.4, 0.1, 0.2, 0.3]],
    "sigma": [[0.05, 0.1, 0.7]],
    "false alarms": [18],
    "replicate near the start": [-0.2, -0.1],
    "symmetric convolutions": [-0.1, 0.1],
    "compute of early halving": [-300.0, -300.0],
    "another factor in use": [0.1, 0.2],
    "images with the identity loss": [-0.1, 0.2],
    "PSNR with much KL": [-2.0, -1.0],
    "3D from the pixels": [0.1, 0.4],
    "moved in hunyuanvideo": [0],
    "where the flow bends": [{"noise": 0.4, "middle": 0.02, "clip": 0.1}],
    "the worst scale": [{"normalised": 1.0, "raw": 0.9, "10 times": 0.9, "a tenth": 0.3}],
    "own variant": [TrialConfig(part="temporal", stages=(Stage(name="latents", steps=1, learning_rate=1e-3),))],
}


STANDARD = torch.distributions.Normal(0.0, 1.0)


def convolved(frames, weight):
    """Compute the windows one after another: (outputs, the past that is left)."""
    k = weight.shape[2]
    windows = [torch.einsum("bck,ock->bo", frames[:, :, t : t + k], weight) for t in range(frames.shape[2] - k + 1)]
    return torch.stack(windows, dim=2), frames[:, :, len(windows) :]


def causal(x, weight, stride, dilation):
    """Compute a causal convolution from the frames that each output sees; frames before the first are zeros."""
    kt, kh, kw = weight.shape[2:]
    outputs = []
    for j in range(x.shape[2] // stride):
        y = 0
        for i in range(kt):
            t = stride * (j + 1) - 1 - dilation * (kt - 1 - i)
            y = y + torch.nn.functional.conv2d(x[:, :, t], weight[:, :, i], padding=(kh // 2, kw // 2)) * (t >= 0)
        outputs.append(y)
    return torch.stack(outputs, dim=2)


def fitted(cells, colours):
    """Least squares by the normal equations: weights (5, 3), the constant last."""
    a = torch.cat([cells, torch.ones(len(cells), 1)], dim=1).double()
    return torch.linalg.solve(a.T @ a, a.T @ colours.double())


def decoded_in_chunks(half, z, num_frames):
    """Decode 5 latent frames after another, each to the last frames that its chunk has."""
    chunks = [half.frames(z[:, :, i : i + 5]) for i in range(0, z.shape[2], 5)]
    lengths = [17] * (len(chunks) - 1) + [num_frames - 17 * (len(chunks) - 1)]
    return torch.cat([chunk[:, :, -length:] for chunk, length in zip(chunks, lengths, strict=True)], dim=2)


def walked(model, noise, num_steps):
    """Walk by Euler's method from t = 1000 to 0."""
    z = noise
    for i in range(num_steps):
        z = z + model(z, torch.full((len(z),), 1000.0 * (1 - i / num_steps))) / num_steps
    return z


def kept_still(encode, picture, num_frames):
    """Whether a still clip has equal latents, but for rounding."""
    z = encode(picture.repeat(1, 1, num_frames, 1, 1))
    return bool((z - z[:, :, :1]).abs().max() < 1e-3 * z.abs().max())


RIGHT = {  # worked out by hand
    "latent frames of an image": 1,
    "photograph or noise": "photograph",
    "outputs moved by the last frame": [6, 7],
    "ends of the windows": [0, 2, 4, 6],
    "lengths without 1 - s": range(1, 18, 4),
    "axes padded wrongly": ["time", "width"],
    "seen through three layers": (7, 15),
    "write a causal convolution": causal,
    "padding of kernel 3": 2,
    "padding of kernel 3, stride 2": 1,
    "window of output 2": [3, 4, 5],
    "outputs of 17 frames": 8,
    "kernel of 1, stride 2": [1, 3, 5, 7],
    "brightness of output 0": 1 / 3,
    "write time_padding": lambda kernel_size, stride, dilation: dilation * (kernel_size - 1) + 1 - stride,
    "order of F.pad": lambda x, t, h, w: torch.nn.functional.pad(x, (w, w, h, h, t, 0)),
    "latents of 17 frames": 5,
    "group of latent 0": [0, 1],
    "place 17 of 21 frames": 20,
    "write decode in chunks": decoded_in_chunks,
    "latents of 18 frames": 6,
    "latents of 51 frames": (15, 13),
    "frames of latent 5": range(17, 21),
    "what latent 1 sees": [4, 16],
    "lengths of 6 latents": {18, 19, 20, 21},
    "31 came back as": 29,
    "write latent_frames": lambda t, m: sum(-(-min(m or t, t - start) // 4) for start in range(0, t, m or t)),
    "write psnr": lambda x, y: 10 * torch.log10(4 / (x - y).square().mean()),
    "worst frame of the clip": 2,
    "padding and the first frame": 0,
    "mend a short chunk": lambda x: x + 0.1,
    "which half": "2D",
    "best place in a chunk": 0,
    "jump of a static clip": 7,
    "step of channels": "4 to 8",
    "frames latent 2 may see": range(11),
    "moved by the last frame": [0, 1, 2, 3, 4],
    "moved by frame 5": {2, 3, 4},
    "which module": "GroupNorm",
    "write frame norm": lambda norm, x: torch.stack([norm(x[:, :, t]) for t in range(x.shape[2])], dim=2),
    "planted convolution": "encoder.down_blocks.1.resnets.0.conv2",
    "quality after the swap": "worse",
    "receptive field of the encoder": 201,
    "moved in cogvideox": [3, 4],
    "write last_seen": lambda latent, num_frames, ratio: ratio * (latent + 1) - -num_frames % ratio - 1,
    "latents too many": 3,
    "channel that forgets fastest": 3,
    "denormalized by mistake": [4, 9],
    "write a preview": fitted,
    "cheapest channel": 3,
    "frames that a cell paints": [0, 16],
    "frames painted without the leak": [5, 16],
    "cheapest movement": "shift by a cell",
    "halfway between two clips": "fade",
    "write kl": lambda mean, std: 0.5 * (mean**2 + std**2 - 1 - np.log(std**2)),
    "largest jump of a still": 34,
    "length of the hidden chunks": 13,
    "step of a fade": 0.2,
    "write step": lambda x, past, weight: convolved(torch.cat([past, x], dim=2), weight),
    "when latents come": [0, 1, 0, 0, 0, 1],
    "when latent 0 is final": [51, 3],
    "rows kept of a tile": 6,
    "weight of kl": 5,
    "write the loss": lambda x, y, mean, std, w: (
        torch.nn.functional.mse_loss(y, x)
        + 0.05 * torch.nn.functional.l1_loss(y, x)
        + w * torch.distributions.kl_divergence(torch.distributions.Normal(mean, std), STANDARD).mean()
    ),
    "identity": "with",
    "drift": "larger",
    "least visible channel": 1,
    "sigma": "up",
    "standard errors of 3 seeds": 4.303,
    "false alarms": 0.9,
    "write interval": lambda d: stats.ttest_1samp(d, 0).confidence_interval(0.95),
    "replicate near the start": "better",
    "symmetric convolutions": "cannot tell",
    "leak of frame_group": 0,
    "compute of early halving": "less",
    "compression of 8x": 5 / 3,
    "latents in chunks of 5": 13,
    "another factor in use": "worse",
    "images with the identity loss": "cannot tell",
    "PSNR with much KL": "worse",
    "3D from the pixels": "better",
    "own variant": {"wider": {"model": {"base_channels": 24}}},
    "a kernel with time": 3,
    "the half that computes more": "2D",
    "outputs that see padding": 3,
    "outputs of a stack": 4,
    "write the still test": kept_still,
    "moved in hunyuanvideo": 0,
    "std with the other factor": 0.607,
    "20 frames in wan": 17,
    "latents of three chunks": (15, 12),
    "write the law of minimax-h3": lambda num_frames: 1 if num_frames == 1 else 5 * -(-num_frames // 17) - 3,
    "bits per pixel": 3 / 16,
    "point at 250": 1.25,
    "one step from noise": "the mean clip",
    "where the flow bends": "noise",
    "error of Euler": 2,
    "write a walk": walked,
    "loss at timestep 0": 1,
    "timesteps of large clips": "towards noise",
    "the worst scale": "a tenth",
    "exact condition": "lab-frame-group",
    "pairs of attention": 160 / 21,
    "shuffled frames": "shuffled as well",
}


def check_of(name: str) -> Check:
    return question(name, *MEASURED.get(name, []))
