"""The questions of notebook 02: sizes. Right answers and many known mistakes come from `shapes`."""

from collections.abc import Callable
from typing import cast

import torch

from .. import shapes
from ..families.codec import tiny_model
from ..video_vae import VideoVAE
from .quiz import FunctionQuestion, Question, Questions, Verdict, agrees_with, is_close


def _judge_decoding(call: Callable) -> Verdict:
    """Try the reader's decode(half, z, num_frames) against a tiny VideoVAE with chunks of 17 frames."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        vae = cast(VideoVAE, tiny_model("open-sora 1.2"))
        lengths = (17, 16, 18, 34, 35, 50)
        for num_frames in lengths:
            z = torch.randn(1, 4, shapes.latent_frames(num_frames), 2, 2)
            right = vae.decode_spatial_latent(z, num_frames).sample
            words = f"{z.shape[2]} latent frames of {shapes.count(num_frames, 'frame')}"
            result = call(words, vae.temporal, z, num_frames)
            frames = result.shape[2] if isinstance(result, torch.Tensor) and result.ndim == 5 else type(result).__name__
            if frames != num_frames:
                return Verdict(False, f"{words}: your function gives {frames} frames. Each chunk drops its own front.")
            if not is_close(result, right):
                return Verdict(
                    False, f"{words}: the number is right, the frames are not. Which latents belong together?"
                )
    return Verdict(True, f"It decodes as the model does, for {', '.join(map(str, lengths))} frames.")


QUESTIONS: Questions = {
    "latents of 17 frames": Question(
        shapes.latent_frames(17),
        "Five: three frames of zeros in front make 20, which is divisible by 4.",
        "How many frames must be added in front to reach a multiple of 4?",
        [(17 // 4, "That drops a frame. Open-Sora pads instead, so it is ceil(17 / 4)."),
         (17 / 4, "The clip is padded first.")],
    ),
    "group of latent 0": Question(
        list(shapes.frame_groups(6)[0]),
        "Frames 0 and 1: two frames of zeros in front make 8 frames, and share the first group with frames 0 and 1.",
        "How many frames of zeros go in front of 6 frames? The first four, zeros included, become latent frame 0.",
        [([0], "That would be right for 5 or 17 frames, which have three frames of zeros in front."),
         ([0, 1, 2, 3], "That would be right for 8 frames, which need no zeros."),
         ([0, 1, 2], "One frame of zeros is not enough: 7 is no multiple of 4.")],
    ),
    "place 17 of 21 frames": Question(
        20,
        "Frame 20. The decoder makes four frames of the last latent frame, 17 to 20. Told 18, it takes the first three "
        "for padding and drops them. Nothing complains.",
        "The last latent frame becomes four frames. Told that the last chunk has one frame, which of them are dropped?",
        [(17, "The decoder drops what stands for padding, and padding is *in front*. Which of the four frames stays?"),
         (18, "Three of the four frames are dropped, all in front.")],
    ),
    "write decode in chunks": FunctionQuestion(_judge_decoding),
    "latents of 18 frames": Question(
        shapes.latent_frames(18),
        "Six: 18 frames are a chunk of 17 (5 latents) and a chunk of 1 (1 latent).",
        "Cut the 18 frames into chunks of 17, and count the latents of each chunk separately.",
        [(shapes.latent_frames(18, micro_frame_size=None), "That is ceil(18 / 4), without chunks."),
         (18 // 4, "That is floor(18 / 4), which would lose frames.")],
    ),
    "latents of 51 frames": Question(
        [shapes.latent_frames(51), shapes.latent_frames(51, micro_frame_size=None)],
        "15 in three chunks of 17, and 13 in one piece: chunks cost 2 latent frames here.",
        "Each of the three chunks of 17 has ceil(17 / 4) latents; in one piece there are ceil(51 / 4).",
        [([13, 15], "The two are the other way round."), ([12, 12], "Those are rounded down, which would lose frames."),
         ([15, 12], "The second is rounded down: it is ceil(51 / 4).")],
    ),
    "frames of latent 5": Question(
        list(shapes.frame_groups(33)[5]),
        "Frames 17 to 20. The second chunk has 16 frames, a multiple of 4: it needs no padding, so its first latent "
        "frame stands for four frames.",
        "The second chunk begins at frame 17 and has 16 frames. How much padding does it need?",
        [([17], "That would be right in a chunk of 17. This one has 16 frames, a multiple of 4: no padding."),
         (list(range(20, 24)), "That counts as if the second chunk were padded too.")],
    ),
    "what latent 1 sees": Question(
        [shapes.frame_groups(17)[1].stop - 1, shapes.MICRO_FRAME_SIZE - 1],
        "Frame 4 is the end of its own group, and causal convolutions see no further. GroupNorm takes its mean and "
        "variance over all frames of the chunk, so with it even latent frame 1 depends on frame 16.",
        "Latent frame 1 of a chunk of 17 stands for frames 1 to 4. Which norm pools over time?",
        [([4, 4], "The released model normalises with GroupNorm over the whole chunk."),
         ([1, 16], "Causal here means up to the end of the latent's own group, and that has four frames."),
         ([0, 16], "Latent frame 0 stands for frame 0, latent frame 1 for four frames.")],
    ),
    "lengths of 6 latents": Question(
        list(shapes.frame_range(6)),
        "18 to 21: the first chunk has five latents for 17 frames, and the sixth stands for 1 to 4 more. This is why "
        "decode must be told num_frames.",
        "Five latents are one full chunk of 17. How many frames can the sixth stand for?",
        [(list(range(21, 25)), "That is without chunks: ceil(T / 4) = 6."),
         ([18], "Several lengths have six latents."),
         ([24], "The decoder first makes 24 frames, and then drops those that stand for padding.")],
    ),
    "31 came back as": Question(
        4 * (shapes.latent_frames(31, micro_frame_size=None) - 1) + 1,
        "29: there are ceil(31 / 4) = 8 latents, and these decoders always turn the first latent into one frame and "
        "each of the others into four: 4·(8 − 1) + 1. Lengths that are preserved are 4k + 1: 25, 29, 33.",
        "31 frames have 8 latents in these models too. The first stands for one frame, the others for four each.",
        [(31, "Such a decoder is not told the length. It always turns the first latent into a single frame."),
         (4 * 8, "The first latent stands for only one frame."),
         (4 * 8 + 1, "One latent stands for one frame, and seven stand for four each.")],
    ),
    "write latent_frames": agrees_with(
        lambda num_frames, chunk: shapes.latent_frames(num_frames, micro_frame_size=chunk),
        [(t, m) for t in (1, 2, 4, 5, 16, 17, 18, 33, 34, 35, 51, 102) for m in (None, 4, 5, 9, 17)],
        "num_frames={}, micro_frame_size={}",
        lambda num_frames, chunk: (
            "Without chunks it is ceil(T / 4)." if chunk is None else
            "Every chunk is rounded up separately." if num_frames % chunk == 0 else
            "The last chunk is shorter, and is rounded up separately."
        ),
    ),
}  # fmt: skip
