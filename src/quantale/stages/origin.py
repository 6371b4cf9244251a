"""What a number rests on: the model, data, tokenizer and machine that its record names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from quantale.core import provenance
from quantale.core.records import Measurement
from quantale.quant.ledger import kernel_names


@dataclass(frozen=True)
class ModelOrigin:
    """How a model was run and what it says of its training."""

    kernel: str
    """Names of the kernels that its packed layers use, with commas between."""
    device: str
    dtype: str
    training_seed: int | None
    """None where its config names none."""

    @classmethod
    def of(cls, model: Any) -> "ModelOrigin":
        """Look at a loaded model."""
        seed = getattr(model.config, "training_seed", None)
        return cls(
            ",".join(sorted(set(kernel_names(model).values()))),
            str(model.device),
            str(model.dtype).removeprefix("torch."),
            None if seed is None else int(seed),
        )


def origins_of(models: Mapping[str, Any]) -> dict[str, ModelOrigin]:
    """Look at loaded models, by name."""
    return {name: ModelOrigin.of(model) for name, model in models.items()}


def with_origins(
    found: Iterable[Measurement],
    origins: Mapping[str, ModelOrigin],
    *,
    data_sha256: str,
    tokenizer_sha256: str,
) -> list[Measurement]:
    """Return measurements that say what they rest on.

    A name without an origin (the corpus beside the models) gets that of the data alone.
    """
    shared: dict[str, Any] = {
        "data_sha256": data_sha256,
        "tokenizer_sha256": tokenizer_sha256,
        "provenance": provenance.digest(provenance.collect()),
    }
    return [_stated(replace(one, **shared), origins.get(one.model)) for one in found]


def _stated(one: Measurement, origin: ModelOrigin | None) -> Measurement:
    if origin is None:
        return one
    seed = {} if origin.training_seed is None else {"training_seed": origin.training_seed}
    return replace(
        one,
        kernel=origin.kernel,
        device=origin.device,
        dtype=origin.dtype,
        extra={**one.extra, **seed},
    )
