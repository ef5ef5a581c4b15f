"""Train variants of a config with several seeds, and say which differences are more than chance."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
