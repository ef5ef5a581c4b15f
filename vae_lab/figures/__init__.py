"""Pictures: arrays in, arrays or a matplotlib Figure out. Nothing is displayed or written."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
