"""A clip through a VAE and back: in memory, or from file to file in constant memory."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
