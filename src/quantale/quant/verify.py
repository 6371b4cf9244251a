"""The fresh process of `quant/save.py`: read folders on stdin, answer with their digests."""

import json
import sys
from pathlib import Path

import torch
import transformers

import quantale.hooks  # noqa: F401  (importing the package is what registers packed models)
from quantale.models.adapter_record import is_adapter
from quantale.models.gate import weight_files
from quantale.models.load import auto_class, load
from quantale.models.skeleton import open_model
from quantale.quant.hf import check_files, swap
from quantale.quant.proof import logits_digest, proof_tokens
from quantale.quant.sequential import Task, quantize_pieces
from quantale.quant.shards import WHOLE_LIMIT
from quantale.quant.stored import read_sites
from quantale.quant.streamed import Streamed


def main() -> None:
    """Read {"threads", "dtype", "folders"} from stdin and write {folder: digest} to stdout."""
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    transformers.utils.logging.disable_progress_bar()
    found = {}
    for name in request["folders"]:
        if is_adapter(Path(name)):
            kind = None if request["dtype"] == "auto" else getattr(torch, request["dtype"])
            found[name] = logits_digest(load(name, dtype=kind).model)
            continue
        size = sum(path.stat().st_size for path in weight_files(Path(name)))
        in_pieces = request["dtype"] == "float32" and size > WHOLE_LIMIT
        found[name] = digest_in_pieces(Path(name)) if in_pieces else digest(name, request["dtype"])
    sys.stdout.write(json.dumps(found) + "\n")


def digest(folder: str, dtype: str) -> str:
    """Return the digest of a model that transformers loads."""
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    kind = auto_class(config)
    model = kind.from_pretrained(folder, local_files_only=True, dtype=dtype)
    return logits_digest(model)


def digest_in_pieces(folder: Path) -> str:
    """Return the digest of a packed model of which one piece at a time is in memory.

    Its files must hold exactly what transformers would want of them. Weights come in float32.
    """
    opened = open_model(folder)
    model = opened.model
    for site in read_sites(model.config.quantization_config):
        swap(model, site)
    check_files(model, weight_files(folder))
    task = Task({}, [], proof=proof_tokens(model))
    outcome = quantize_pieces(model, task, Streamed(model, opened.checkpoint))
    return str(outcome.digest)


if __name__ == "__main__":
    main()
