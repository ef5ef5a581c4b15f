"""Write the sample clips in data/ again: `python scripts/make_clips.py`. Metrics compare with these lossy files.

dog.mp4 is real footage, which no script makes: data/README.md says where it is from.
"""

from pathlib import Path

from vae_lab import photo_clip, synthetic_clip, write_video

DATA = Path(__file__).parents[1] / "data"
CLIPS = {
    # photo clips: the view is (x, y, zoom); these photographs are held out from the training of the bundled weights
    "astronaut.mp4": lambda: photo_clip("astronaut", 51, (192, 192), start=(0.30, 0.05, 1.9), stop=(0.45, 0.0, 1.5)),
    "chelsea.mp4": lambda: photo_clip("chelsea", 51, (192, 192), start=(0.25, 0.4, 1.0), stop=(0.35, 0.55, 1.5)),
    "coffee.mp4": lambda: photo_clip("coffee", 51, (192, 192), start=(0.1, 0.3, 1.4), stop=(0.75, 0.6, 1.2)),
    "shapes.mp4": lambda: synthetic_clip("shapes", 51, (128, 128), seed=7),
    "cut.mp4": lambda: synthetic_clip("cut", 34, (128, 128), seed=3, at=20),
}


def main() -> None:
    for name, make in CLIPS.items():
        clip = make()
        write_video(DATA / name, clip.frames, clip.fps)


if __name__ == "__main__":
    main()
