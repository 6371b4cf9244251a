"""The dtype of what a quantized model keeps in full precision."""

import torch
from torch import Tensor, nn

from quantale.core.errors import NumericalError
from quantale.quant.linear import PackedModule


def cast_rest(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast parameters in place, and what packed modules give out; stored tensors stay as they are.

    Buffers stay too, because transformers keeps them in float32 when it loads a model in another
    dtype. Raises NumericalError naming a weight that is too large for the dtype.
    """
    for name, parameter in model.named_parameters():
        cast = parameter.detach().to(dtype)
        if not torch.isfinite(cast).all():
            kind = str(dtype).removeprefix("torch.")
            raise NumericalError(f"{name} overflows {kind}; use bfloat16 or float32")
        parameter.data = cast

    def follow(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    for module in model.modules():
        if isinstance(module, PackedModule):
            module._apply(follow, recurse=False)
    config = getattr(model, "config", None)
    if config is not None:
        config.dtype = dtype
