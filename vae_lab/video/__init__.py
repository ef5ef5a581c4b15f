"""Videos, images and synthetic clips: frames uint8 (T, H, W, 3) and tensors (B, 3, T, H, W) in [-1, 1]."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
