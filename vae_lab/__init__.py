"""vae_lab: Open-Sora 1.2's video VAE, exact and inspectable. `__init__.pyi` lists the names, loaded at first use."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
