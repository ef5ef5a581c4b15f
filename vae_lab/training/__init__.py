"""Train a 2D VAE, a temporal VAE or a whole one: resumable to the bit."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
