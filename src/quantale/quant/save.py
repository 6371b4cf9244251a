"""Save a packed model as an ordinary model directory, and prove in a fresh process that it loads.

The proof is the sha256 of the logits on fixed random tokens: equal digests mean equal bits.
"""

import hashlib
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

_BATCH, _LENGTH = 2, 32


def write_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, folder: Path
) -> None:
    """Write configuration, weights and tokenizer into a staging folder."""
    with files.disk_faults(folder):
        model.save_pretrained(folder)
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


def logits_digest(model: PreTrainedModel) -> str:
    """Return the sha256 of the float32 logits of a fixed batch of random tokens.

    A classifier without a padding token takes one row at a time only, so it gets the first row.
    """
    generator = torch.Generator().manual_seed(0)
    config = model.config.get_text_config()
    length = min(_LENGTH, getattr(config, "max_position_embeddings", _LENGTH))
    tokens = torch.randint(config.vocab_size, (_BATCH, length), generator=generator)
    if model.get_output_embeddings() is None and config.pad_token_id is None:
        tokens = tokens[:1]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=tokens.to(model.device)).logits
    model.train(was_training)
    return hashlib.sha256(logits.to(torch.float32).cpu().numpy().tobytes()).hexdigest()


def verify_saves(expected: Mapping[Path, str]) -> None:
    """Load every folder in one fresh process and compare the digests of the logits.

    Raises ModelFileError naming the first folder that differs or does not load.
    """
    request = {
        "threads": torch.get_num_threads(),
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
