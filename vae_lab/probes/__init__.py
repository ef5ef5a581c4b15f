"""Measure any video map: what sees what, what leaks, what changes with the chunks.

A map is a plain function (B, C, T, H, W) -> (B, C', L, h, w). Only `causality` and `report` know models."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
