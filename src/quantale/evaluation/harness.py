"""Packed models in lm-evaluation-harness: its model type `quantale`, and its command line with it.

    python -m quantale.evaluation.harness run --model quantale \\
        --model_args pretrained=runs/quickstart/quantize/rtn-4bit --tasks hellaswag

The harness (EleutherAI, the extra `lm-eval`) brings tasks, prompts, requests and metrics; this is
its own class for models of transformers, given a model that passed our gate and runs from its
packed weights with exact kernels. Nothing else is changed, so a number is what the harness says.
Its rolling perplexity also scores the BOS that a tokenizer adds by itself; with
`add_bos_token=False` it scores what the protocol `document` scores, as long as a text with its
BOS fits the context.
"""

import importlib
import importlib.util
from typing import Any

from quantale.core.errors import EnvironmentLackingError
from quantale.models.load import load

if importlib.util.find_spec("lm_eval") is None:
    raise EnvironmentLackingError(
        "lm-evaluation-harness is not installed: pip install 'quantale[lm-eval]'"
    )

from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM


@register_model("quantale")
class QuantaleLM(HFLM):  # type: ignore[misc]  # the harness has no types
    """A model directory of ours, packed or not, or a Hub name; the harness's model `quantale`."""

    def __init__(self, pretrained: str, device: str | None = "cpu", **settings: Any) -> None:
        """Load the model; `settings` are those of the harness's `hf`, such as batch_size.

        Raises what `load` raises, and DataError for a folder without a tokenizer.
        """
        loaded = load(pretrained, device=device or "cpu")
        super().__init__(pretrained=loaded.model, tokenizer=loaded.tokenizer, **settings)


def main() -> None:
    """Run the harness's own command line, which now knows the model `quantale`."""
    importlib.import_module("lm_eval.__main__").cli_evaluate()


if __name__ == "__main__":
    main()
