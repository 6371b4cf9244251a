"""The fresh process of `quant/save.py`: read folders on stdin, answer with their digests."""

import json
import sys

import torch
import transformers

import quantale.hooks  # noqa: F401  (importing the package is what registers packed models)
from quantale.models.load import auto_class
from quantale.quant.save import logits_digest


def main() -> None:
    """Read {"threads", "folders"} from stdin and write {folder: digest} to stdout."""
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    transformers.utils.logging.disable_progress_bar()
    found = {}
    for folder in request["folders"]:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        model = auto_class(config).from_pretrained(folder, local_files_only=True)
        found[folder] = logits_digest(model)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
