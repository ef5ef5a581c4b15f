"""Generate video from text: rectified flow and a spatio-temporal transformer on the latents of a video VAE."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
