"""The upsampler of diffusers' AutoencoderKL, by fewer than half of its multiplications."""

from typing import Any

from diffusers.models import upsampling
from torch import Tensor, nn

from .convolutions import Conv2d


class Upsample2D(upsampling.Upsample2D):
    """diffusers' class, whose convolution doubles height and width itself."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Upsample (B, C, H, W), by diffusers' code if it is asked for more or the convolution was replaced."""
        if args or kwargs or type(self.conv) is not Conv2d:
            return super().forward(hidden_states, *args, **kwargs)
        return self.conv(hidden_states, doubled=True)


def quicken_upsampling(model: nn.Module) -> None:
    """Give diffusers' upsamplers in a model this class. What they compute changes only by rounding."""
    for module in model.modules():
        if type(module) is upsampling.Upsample2D and type(module.conv) is nn.Conv2d:
            module.__class__, module.conv.__class__ = Upsample2D, Conv2d
