"""Packages that only an extra of pyproject.toml installs."""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtraError(ModuleNotFoundError):
    """A package is missing; the message says which extra installs it."""


@contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Raise MissingExtraError, which names the extra to install, if an import in this block finds no package."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("vae_lab"):
            raise
        message = f"{error.name} is not installed: run pip install 'vae_lab[{name}]'"
        raise MissingExtraError(message, name=error.name) from None
