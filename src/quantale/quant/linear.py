"""The modules that run packed weights: linear layer, embedding, head tied to one, and norm.

One class each serves every format. The codes are a buffer called `weight` of three dimensions, on
purpose: a program that does not know this project finds the name it expects with a shape that it
must refuse, instead of a missing name that it would fill with random numbers.
"""

import copy
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from quantale.core.errors import UsageError
from quantale.quant.dispatch import Runner
from quantale.quant.fixed_dtypes import FixedDtypes
from quantale.quant.learned import LearnedWeight
from quantale.quant.low_rank import LowRank
from quantale.quant.packed import Format, PackedTensor
from quantale.quant.parts import separable
from quantale.quant.sub_norm import SubNorm


class PackedModule(FixedDtypes):
    """Holds one PackedTensor as buffers, whose dtypes never change with `.to()`."""

    def __init__(self, packed: PackedTensor) -> None:
        super().__init__()
        self.format: Format = packed.format
        self.shape = packed.shape
        self.runner = Runner()
        self._names = tuple(packed.tensors)
        for name, tensor in packed.tensors.items():
            self.register_buffer(name, tensor)
        self.learned: LearnedWeight | None = None
        """Scales and zero points that are in training; see `learn`."""

    def learn(self, *, scales: bool, zeros: bool) -> bool:
        """Begin to train scales and zero points; false where the format has none to train."""
        layout = separable(self.format)
        if layout is not None:
            self.learned = LearnedWeight(layout, self.packed, scales=scales, zeros=zeros)
        return layout is not None

    def finish(self) -> None:
        """Store what was learned, if anything, and go on as before."""
        if self.learned is not None:
            for name, tensor in self.learned.finished().tensors.items():
                setattr(self, name, tensor)
            self.learned = None
            self.runner.forget(self)

    def multiply(self, runner: Runner, owner: nn.Module, x: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply by the weight, as it is stored or as it is in training."""
        layout = separable(self.format)
        if self.learned is not None and layout is not None:
            return layout.multiply(x, self.learned.parts(), bias)
        return runner.linear(owner, x, self.packed, bias)

    @property
    def packed(self) -> PackedTensor:
        """The stored weight; its tensors are the module's buffers."""
        tensors = {name: self.get_buffer(name) for name in self._names}
        return PackedTensor(self.format, self.shape, tensors)

    def whole_weight(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the (out, in) weight that the module stands for."""
        return self.packed.dequantize(dtype)

    def __repr__(self) -> str:
        """Describe the module in a printed model, without what it keeps of its original."""
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """Say shape and format."""
        return f"out={self.shape[0]}, in={self.shape[1]}, {self.format}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.runner.forget(self)
        return super()._apply(fn, recurse)


class QuantLinear(PackedModule):
    """A linear layer over a packed (out, in) weight; replaces Linear and Conv1D alike."""

    def __init__(self, packed: PackedTensor, bias: Tensor | None) -> None:
        super().__init__(packed)
        self.out_features, self.in_features = packed.shape
        self.nf, self.nx = packed.shape  # the names that users of Conv1D know
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.norm: SubNorm | None = None
        """What normalizes the inputs first, in models that were trained with it."""
        self.low_rank: LowRank | None = None
        """What is added to the packed weight, in models that were trained with it."""

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: (..., in) -> (..., out)."""
        x = x if self.norm is None else self.norm(x)
        out = self.multiply(self.runner, self, x, self.bias)
        return out if self.low_rank is None else out + self.low_rank(x)

    def whole_weight(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the (out, in) weight that the layer stands for, its low-rank term included."""
        weight = super().whole_weight(dtype)
        return weight if self.low_rank is None else weight + self.low_rank.weight(dtype)

    @staticmethod
    def adapter_layer() -> type[nn.Module]:
        """Return the class that puts an adapter of peft beside such a layer."""
        from quantale.quant.lora import QuantLoraLinear  # peft takes a second to import

        return QuantLoraLinear


class QuantEmbedding(PackedModule):
    """An embedding over a packed (entries, width) weight; unpacks only the rows it needs.

    Subclasses of nn.Embedding keep their own arithmetic (a scale, an offset of positions): their
    `forward` runs over a stand-in for the weight that answers a lookup with unpacked rows.
    """

    def __init__(self, packed: PackedTensor, module: nn.Embedding) -> None:
        super().__init__(packed)
        self.num_embeddings, self.embedding_dim = packed.shape
        probe = torch.empty(0, dtype=module.weight.dtype, device=module.weight.device)
        self.register_buffer("_dtype_probe", probe, persistent=False)
        self.original: nn.Module | None = None
        if type(module) is not nn.Embedding:
            self.original = _without_tensors(module)
            del self.original.weight
            self.original.weight = _Rows(self)  # type: ignore[assignment]

    @property
    def dtype(self) -> torch.dtype:
        """The model's dtype, in which rows are looked up."""
        return self.get_buffer("_dtype_probe").dtype

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Look up: (...) integer -> (..., width) in the model's dtype."""
        if self.original is None:
            return self.lookup(*args, **kwargs)
        return self.original(*args, **kwargs)

    def lookup(self, input: Tensor) -> Tensor:  # noqa: A002  (the name that nn.Embedding gives it)
        """Return the rows alone: (...) integer -> (..., width) in the model's dtype."""
        if self.learned is not None:
            return functional.embedding(input, self.learned.parts().weight()).to(self.dtype)
        return self.format.rows(self.packed, input, self.dtype)


class _Rows:
    """Stands where a subclass of nn.Embedding expects its weight."""

    _is_hf_initialized = True  # transformers asks before it fills a weight with random numbers

    def __init__(self, owner: QuantEmbedding) -> None:
        self._owner = owner

    @property
    def dtype(self) -> torch.dtype:
        return self._owner.dtype

    @property
    def device(self) -> torch.device:
        return self._owner.get_buffer("weight").device

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self._owner.shape)

    def __getattr__(self, name: str) -> Any:
        """Answer for everything else that a tensor has."""
        owner = vars(self).get("_owner")  # copying asks before it is there
        kind = None if owner is None else type(owner.original).__name__
        raise AttributeError(_misuse(kind, name))

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        del types, kwargs
        owner = next(value for value in args if isinstance(value, cls))._owner
        if func is functional.embedding:
            return owner.lookup(args[0])
        raise UsageError(_misuse(type(owner.original).__name__, getattr(func, "__name__", func)))


def _misuse(kind: str | None, name: object) -> str:
    return (
        f"a {kind} uses its weight for {name!r} and not only for lookups, so it cannot be "
        "quantized; leave it in full precision"
    )


class QuantNorm(PackedModule):
    """A norm over a packed (1, width) weight.

    The original's own `forward` runs with the dequantized weight, so whether it multiplies by the
    weight or by one plus the weight is its own affair.
    """

    def __init__(self, packed: PackedTensor, module: nn.Module, bias: Tensor | None) -> None:
        super().__init__(packed)
        weight = module.get_parameter("weight")
        probe = torch.empty(0, dtype=weight.dtype, device=weight.device)
        self.register_buffer("_dtype_probe", probe, persistent=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.original = _without_tensors(module)
        self.original._is_hf_initialized = True  # type: ignore[assignment]

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Normalize: (..., width) -> (..., width)."""
        weight = self.packed.dequantize(self.get_buffer("_dtype_probe").dtype)
        tensors = {"weight": weight.squeeze(0)}
        if self.bias is not None:
            tensors["bias"] = self.bias
        return torch.func.functional_call(self.original, tensors, args, kwargs)


def packed_module(module: nn.Module, packed: PackedTensor, bias: Tensor | None) -> PackedModule:
    """Return what takes the place of a linear layer, a Conv1D, an embedding or a norm.

    Raises UsageError for a module that stores more than a weight and a bias, or changes its weight.
    """
    if isinstance(module, nn.Linear | Conv1D):
        return QuantLinear(packed, bias)
    kind, stored = type(module).__name__, set(module.state_dict())
    if not isinstance(module, nn.Embedding):
        return QuantNorm(packed, module, bias)
    if stored != {"weight"} or module.max_norm is not None:
        raise UsageError(
            f"a {kind} that stores {sorted(stored)} (max_norm {module.max_norm}) cannot be "
            "quantized; leave it in full precision"
        )
    return QuantEmbedding(packed, module)


def _without_tensors(module: nn.Module) -> nn.Module:
    """Return a copy of a module whose parameters are None; its buffers are shared."""
    shell = copy.copy(module)
    shell._parameters = dict.fromkeys(module._parameters)
    return shell


class TiedHead(nn.Module):
    """A head that multiplies by the packed weight of an embedding and stores nothing but a bias."""

    def __init__(self, embedding: QuantEmbedding, bias: Tensor | None) -> None:
        super().__init__()
        self.runner = Runner()
        self._embedding = (embedding,)  # in a tuple: not a child module, so not stored twice
        self.out_features, self.in_features = embedding.shape
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    @property
    def packed(self) -> PackedTensor:
        """The packed weight of the embedding."""
        return self._embedding[0].packed

    @property
    def weight(self) -> Tensor:
        """The codes of the embedding."""
        return self._embedding[0].get_buffer("weight")

    @weight.setter
    def weight(self, value: Tensor) -> None:
        if value is not self.weight:
            raise ValueError("the head is tied to its packed embedding and has no weight to set")

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: (..., width) -> (..., entries)."""
        return self._embedding[0].multiply(self.runner, self, x, self.bias)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TiedHead":
        self.runner.forget(self)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "TiedHead":
        embedding = copy.deepcopy(self._embedding[0], memo)
        return TiedHead(embedding, copy.deepcopy(self.bias, memo))


def parameters(model: nn.Module) -> int:
    """Return how many weights a model stands for, packed ones included and tied ones once."""
    packed = [module.shape for module in model.modules() if isinstance(module, PackedModule)]
    plain = sum(parameter.numel() for parameter in model.parameters())
    return plain + sum(rows * width for rows, width in packed)
