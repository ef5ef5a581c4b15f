"""One interface for every video VAE: what is known of its family, and a Codec with the same methods for every class."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
