"""The questions of notebook 09: families. Right answers come from the records of the families and what it measured."""

from ..families.table import FAMILIES
from .quiz import Question, Questions, agrees_with, choice

_OPEN_SORA, _MINIMAX, _KVAE = (FAMILIES[name] for name in ("open-sora 1.2", "minimax-h3", "kvae"))
_FACTORS = 1.15258426, 0.7  # CogVideoX-2B and 5B: their config.json on the Hub


def _law_hint(num_frames: int) -> str:
    if num_frames == 1:
        return "A single frame is a picture: 1."
    return "Each chunk of 17 frames, the last one filled up, has 5 latents; the last 3 of all are dropped."


def _first_moved(latent: int) -> Question:
    return Question(
        latent,
        f"Latent {latent}: the norms take their statistics over all 17 frames, so nothing is final before the last.",
        "Do the norms wait for the last frame?",
        [(4, "That is what the convolutions alone would do. The norms see all frames.")],
    )


QUESTIONS: Questions = {
    "a kernel with time": Question(
        3,
        "3: it has 27 weights instead of 9 for each pair of channels, and as many outputs.",
        "How many weights does each kernel have?",
        [(27, "That is the number of its weights. How many has the 3x3 kernel?"),
         (9, "That is the number of weights of the 3x3 kernel.")],
    ),
    "the half that computes more": choice(
        "2D", ("2D", "temporal"),
        "The 2D half does more than three quarters of it, with a fifth of the parameters: it runs at 64 times as many "
        "places.",
        "At how many places does each half run?",
    ),
    "outputs that see padding": Question(
        3,
        "3: there are 5 frames of padding; the windows of outputs 0, 1 and 2 begin 5, 3 and 1 frames before frame 0.",
        "There are 7 - 2 frames of padding. How many windows begin in them, if each begins 2 frames later?",
        [(5, "That is how many frames of padding there are. A window begins at every second of them."),
         (2.5, "Round up: a window that begins in the padding counts."),
         (2, "The third window begins one frame before frame 0.")],
    ),
    "what keeps a picture still": choice(
        "repeated", ("zeros", "repeated", "alone"),
        "Repeated: a still clip with its first frame in front of it is a longer still clip, for every layer.",
        "Which padding does a still clip not notice?",
    ),
    "moved in hunyuanvideo": _first_moved,
    "std with the other factor": Question(
        _FACTORS[1] / _FACTORS[0],
        f"{_FACTORS[1] / _FACTORS[0]:.3f}: the latents are multiplied by 0.7 instead of 1.15258426.",
        "What is the standard deviation before the factor?",
        [(_FACTORS[0] / _FACTORS[1], "That is the other way round: it is the smaller factor that is used."),
         (_FACTORS[1], "That would be right if they had a standard deviation of 1 without a factor.")],
    ),
    "21 frames in kvae": Question(
        _KVAE.decoded_frames(21),
        "18: there are 6 latents, and for 4k + 2 latents the last segment is taken for a picture: 3 frames are lost.",
        "How many latents are there? Look for KVAE in the list of findings.",
        [(21, "So the law says. But there are 6 latents, 4k + 2: see KVAE in the list of findings."),
         (17, "21 is 4k + 1: nothing is dropped on the way in.")],
    ),
    "latents of three chunks": Question(
        [_OPEN_SORA.latent_frames(51), _MINIMAX.latent_frames(51)],
        "15 and 12: both have 5 a chunk, but MiniMax-H3 drops the last 3 of the clip.",
        "Both have 5 for each chunk of 17. Which of them drops some at the end?",
        [([15, 15], "MiniMax-H3 drops the last 3 latents."),
         ([12, 15], "The two are the other way round."), ([13, 13], "That is 51 frames in one piece.")],
    ),
    "write the law of minimax-h3": agrees_with(
        lambda num_frames: _MINIMAX.latent_frames(num_frames),
        [(n,) for n in (1, 2, 17, 18, 22, 34, 35, 39, 51, 52, 85, 86)],
        "num_frames={}",
        _law_hint,
    ),
    "bits per pixel": Question(
        12 / 64,
        "0.1875: 12 bits for 4 * 4 * 4 pixels. That a clip's first frame has cells for itself counts less and less.",
        "How many pixels, over space and time, does a cell stand for?",
        [(12 / 16, "A cell stands for 4 frames too."), (12 / 256, "That is for cells of 8x8 pixels."),
         (64 / 12, "That is pixels per bit.")],
    ),
}  # fmt: skip
