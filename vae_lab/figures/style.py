"""The lab's colours. What a thing is decides its colour, in every picture."""

COLOURS = {
    "input": "#0072B2",  # input frames: blue
    "padding": "#999999",  # padding: grey
    "latent": "#E69F00",  # latents: orange
    "spatial": "#56B4E9",  # through the 2D half only: sky blue
    "output": "#009E73",  # through both halves: green
    "error": "#D55E00",  # error: vermilion
}
OTHER_COLOURS = ("#CC79A7", "#8C6D31", "#6A51A3")  # for what has no colour of its own
