"""The notebooks' questions, one module a notebook, and the notebooks as pages."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
