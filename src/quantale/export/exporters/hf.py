"""A plain model directory of transformers: full precision, adapters merged, nothing of ours needed.

A nanoGPT is written as a GPT-2. Packed weights are written as the numbers that they stand for.
"""

from pathlib import Path
from typing import ClassVar, Final

import torch
from transformers import PreTrainedModel

from quantale.core import files
from quantale.export.exporter import Grades, Written, plain_state
from quantale.export.source import Source
from quantale.models.load import load
from quantale.models.skeleton import retype

_KINDS: Final = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class Hf:
    """Full precision for `from_pretrained`."""

    types: ClassVar[tuple[str, ...]] = tuple(_KINDS)
    loading: ClassVar[str] = (
        "from transformers import pipeline\n\n"
        'pipeline("text-generation", model="FOLDER")("Once upon a time")'
    )

    def check(self, source: Source, kind: str) -> None:
        """Refuse layers that only this project has."""
        del kind
        source.refuse_norms("hf")

    def write(self, source: Source, kind: str, folder: Path) -> Written:
        """Write configuration, weights and tokenizer."""
        grades = Grades()
        grades.inputs_of(source)
        dtype = _KINDS[kind]
        state = plain_state(source.plain)
        meant = {name: tensor.to(dtype).to(torch.float32) for name, tensor in state.items()}
        if any(not torch.equal(meant[name], tensor.float()) for name, tensor in state.items()):
            grades.lower("rounded")
        model = source.plain
        retype(model, dtype)
        try:
            with files.disk_faults(folder):
                model.save_pretrained(folder)
        finally:
            for name, parameter in model.named_parameters():
                parameter.data = state[name]
        if source.tokenizer is not None:
            source.tokenizer.save_pretrained(folder)
        return Written(kind, meant, grades.grade, notes=tuple(grades.notes))

    def read_back(self, folder: Path) -> PreTrainedModel:
        """Load it as anyone would."""
        model: PreTrainedModel = load(folder).model
        return model
