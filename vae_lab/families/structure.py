"""What decides the shapes that a model of diffusers makes, so that they are measured once for all models alike."""

import hashlib
import inspect
from itertools import chain
from typing import Any

import numpy as np
from diffusers import ConfigMixin
from torch import nn

from ..utils.wrapping import arguments_of

LIBRARIES = "diffusers", "torch"  # whose code is the same for all models of a class


def structure_of(vae: nn.Module) -> tuple | None:
    """Return a key of a model's code, config, attributes, and names, shapes and dtypes of its weights.

    None if something else may decide: hooks, parts of other libraries, functions or tensors among the attributes.
    """
    if not isinstance(vae, ConfigMixin):
        return None
    facts: list[Any] = [sorted(arguments_of(vae.config).items())]
    types: dict[type, int] = {}
    for name, module in vae.named_modules():
        if type(module).__module__.partition(".")[0] not in LIBRARIES:
            return None
        if module._forward_hooks or module._forward_pre_hooks:
            return None
        values = {key: value for key, value in vars(module).items() if key[0] != "_" and key != "training"}
        if not all(map(_is_plain, values.values())) or any(map(callable, vars(module).values())):
            return None
        facts.append((name, types.setdefault(type(module), len(types)), values))
    weights = chain(vae.named_parameters(), vae.named_buffers())
    facts += [(name, tuple(value.shape), value.dtype) for name, value in weights]
    # the functions themselves, because a class may be patched
    code = chain.from_iterable(vars(kind).values() for kind in (*type(vae).__mro__, *types))
    return *types, *filter(inspect.isfunction, code), hashlib.sha256(repr(facts).encode()).digest()


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(isinstance(item, bool | int | float | str | None) for item in value)
    return isinstance(value, bool | int | float | str | np.generic | None)
