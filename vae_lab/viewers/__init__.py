"""Widgets for JupyterLab that answer in the browser; `save_html` turns them into pages that open offline."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
