"""Raw latents (1, C, L, h, w): read them, measure them, edit them, and see what an edit does to the frames."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
