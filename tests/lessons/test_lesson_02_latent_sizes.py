import torch

from tests.helpers.lessons import check_of
from vae_lab.shapes import latent_frames


def test_messages():
    assert check_of("latents of 17 frames")(7).message == (
        "Not 7. How many frames must be added in front to reach a multiple of 4?"
    )


def test_functions_are_told_the_first_case_that_differs():
    check = check_of("write latent_frames")
    assert "Without chunks it is ceil(T / 4)." in check(lambda t, m: t // 4).message

    def no_chunks(num_frames, micro_frame_size):
        return latent_frames(num_frames, micro_frame_size=None)

    assert "num_frames=17, micro_frame_size=4: your function gives 5, the library 5" not in repr(check(no_chunks))
    assert check(no_chunks).right is False


def test_decoding_is_told_what_is_wrong():
    check = check_of("write decode in chunks")
    whole = check(lambda half, z, num_frames: half.frames(z)[:, :, -num_frames:]).message
    assert (
        whole == "6 latent frames of 18 frames: the number is right, the frames are not. Which latents belong together?"
    )
    kept = check(lambda half, z, num_frames: torch.cat([half.frames(part) for part in z.split(5, 2)], dim=2)).message
    assert kept == "5 latent frames of 17 frames: your function gives 20 frames. Each chunk drops its own front."
