"""Save a packed model as an ordinary model directory, and prove in a fresh process that it loads.

The proof is the sha256 of the logits on fixed random tokens: equal digests mean equal bits.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from quantale.core import files
from quantale.core.errors import EnvironmentLackingError, ModelFileError
from quantale.models.adapter_record import is_adapted
from quantale.quant.kept import TENSORS
from quantale.quant.pieces import cut
from quantale.quant.proof import logits_digest
from quantale.quant.shards import assemble

PROOF_DTYPE = "float32"
"""In which stages compute the logits of the proof, whatever dtype is stored."""


def write_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, folder: Path
) -> None:
    """Write configuration, weights and tokenizer into a staging folder; of an adapter, itself."""
    if is_adapted(model):
        from quantale.models.adapters import write_adapter  # peft takes a second to import

        write_adapter(model, folder)
    else:
        with files.disk_faults(folder):
            model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def write_pieces(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    scratch: Path,
    folder: Path,
) -> None:
    """Write the same for an empty model whose finished pieces lie in the scratch folder."""
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    paths = [scratch / piece.name / TENSORS for piece in cut(model).stored]
    assemble([path for path in paths if path.is_file()], folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def save(quantized: tuple[PreTrainedModel, Any], out: str | Path) -> Path:
    """Save (model, tokenizer) as a sealed directory, verified in a fresh process.

    Raises OutputExistsError when `out` exists, ModelFileError when the copy differs.
    """
    model, tokenizer = quantized[0], quantized[1]
    target = Path(out)
    expected = logits_digest(model)
    with files.staging(target, key="save") as folder:
        write_model(model, tokenizer, folder)
        verify_saves({folder: expected})
    return target


def verify_saves(expected: Mapping[Path, str], dtype: str = "auto") -> None:
    """Load every folder in one fresh process and compare the digests of the logits.

    dtype: in which the digests were computed: a name, or "auto" for the one that is stored.
    Raises ModelFileError naming the first folder that differs or does not load.
    """
    request = {
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "folders": [str(folder.resolve()) for folder in expected],
    }
    command = [sys.executable, "-m", "quantale.quant.verify"]
    done = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelFileError(f"a saved model does not load in a fresh process: {last}")
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise EnvironmentLackingError("the verifying process gave no answer") from error
    for folder, digest in expected.items():
        if found[str(folder.resolve())] != digest:
            raise ModelFileError(f"{folder}: a fresh process computes other logits than were saved")
