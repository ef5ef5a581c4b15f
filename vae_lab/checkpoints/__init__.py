"""`load` and `inspect` for any checkpoint: the lab's, Open-Sora's layout, diffusers', local or on the Hub."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
