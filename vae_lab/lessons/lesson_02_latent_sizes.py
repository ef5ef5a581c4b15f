"""The questions of notebook 02: sizes. Right answers and many known mistakes come from `shapes`."""

from .. import shapes
from .quiz import Question, Questions, agrees_with

QUESTIONS: Questions = {
    "latents of 17 frames": Question(
        shapes.latent_frames(17),
        "Five: three frames of zeros in front make 20, which is divisible by 4.",
        "How many frames must be added in front to reach a multiple of 4?",
        [(17 // 4, "That drops a frame. Open-Sora pads instead, so it is ceil(17 / 4)."),
         (17 / 4, "The clip is padded first.")],
    ),
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
