"""Modules that torch wraps in others (`torch.compile`, DataParallel and DistributedDataParallel), or casts."""

import sys
from collections.abc import Mapping
from itertools import chain
from typing import Any, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import nn

from .checks import plain


def unwrapped(model: Any) -> Any:
    """Return the model inside such wrappers; any other model as it is."""
    while isinstance(model, nn.Module):
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif "_orig_mod" in model._modules:  # torch.compile's OptimizedModule
            model = model._orig_mod
        else:
            break
    return model


def plain_key(key: str) -> str:
    """Return the name that a parameter of a compiled module has without compilation."""
    return key.replace("_orig_mod.", "")


class PreciseBuffers:
    """Before a module's class: its own buffers stay at least float32 when its parameters become half precision."""

    _buffers: dict[str, Any]

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """Apply what `to`, `half` and the like do, but keep the buffers in at least float32."""
        before = dict(self._buffers)
        super()._apply(*args, **kwargs)  # type: ignore[misc]  # of nn.Module
        for name, value in self._buffers.items():
            if value.dtype.itemsize < 4:
                self._buffers[name] = before[name].to(value.device, torch.float32)
        return self


def arguments_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments in the config of a diffusers model, without what diffusers adds, such as `_class_name`."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


class PlainKeys(ModelMixin, ConfigMixin):
    """A diffusers model whose state has the same keys whether its parts are compiled or not; it loads both kinds.

    Its config holds Python's numbers, which JSON can hold, whatever it is made with. diffusers' AutoModel finds it if
    it is one of the lab's.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.partition(".")[0] == __name__.partition(".")[0] and "__init__" in vars(cls):  # no base class
            # where AutoModel finds a class by the name in a config; it has no `register`
            setattr(sys.modules["diffusers"], cls.__name__, cls)

    def register_to_config(self, **config: Any) -> None:
        """Change entries of the config."""
        super().register_to_config(**plain(config))

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the state as torch does, with plain keys."""
        state, prefix = super().state_dict(*args, **kwargs), kwargs.get("prefix", "")
        for key in [key for key in state if key.startswith(prefix)]:
            name = prefix + plain_key(key[len(prefix) :])
            if name != key:
                state[name] = state.pop(key)
        return state

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        names = chain(self.named_parameters(remove_duplicate=False), self.named_buffers(remove_duplicate=False))
        mine = {plain_key(name): prefix + name for name, _ in names}
        for key in [key for key in state_dict if key.startswith(prefix)]:
            name = mine.get(plain_key(key[len(prefix) :]), key)
            if name != key:
                state_dict[name] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)
