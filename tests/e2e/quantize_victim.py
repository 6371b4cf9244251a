"""The process that `test_quantize_kills.py` kills: GPTQ on a small GPT-2, one order a time.

An order names the output folder, the journal of quantized sites, whether one file or shards shall
come out, and whether to be the broken twin.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from kill_server import serve
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils import logging

from quantale.core import files, provenance
from quantale.core import run as runs
from quantale.core.progress import Silent
from quantale.core.recipe_variants import VariantSection
from quantale.core.run import Run, RunKey
from quantale.data.documents import Document, Documents
from quantale.quant import sequential, shards
from quantale.quant.apply import Method, SiteResult, quantize_site
from quantale.quant.calibration import LayerStats
from quantale.quant.sites import LINEAR_ROLES, Site
from quantale.stages.calibration import CalibrationText
from quantale.stages.quantize import quantize_stage, source_of

BLOCKS, CONTEXT, WIDTH, VOCABULARY = 5, 64, 96, 400
SAMPLES = 48
VARIANT = VariantSection(
    name="w3", method="gptq", bits=3, group_size=32, embedding_bits=8, settings={"damp": 0.02}
)


def write_base(folder: Path) -> None:
    """Save a GPT-2 whose weights fall off along their spectrum, as trained ones do."""
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=WIDTH,
        n_layer=BLOCKS,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            left, values, right = torch.linalg.svd(parameter.detach(), full_matrices=False)
            fall = torch.arange(1, values.numel() + 1) ** -0.7
            parameter.data = (left * (4 * values.max() * fall)) @ right
    model.save_pretrained(folder)
    vocabulary = {f"w{index}": index for index in range(VOCABULARY)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="w1"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w1", bos_token="w0").save_pretrained(
        folder
    )


def calibration() -> CalibrationText:
    """Return random stories, the same ones in every process."""
    generator = torch.Generator().manual_seed(11)
    draws = torch.randint(2, VOCABULARY, (120, 60), generator=generator).tolist()
    items = [
        Document(" ".join(f"w{token}" for token in tokens), str(index), {})
        for index, tokens in enumerate(draws)
    ]
    return CalibrationText(Documents.collect(tuple(items), "drawn", "train"), SAMPLES, CONTEXT, 0)


def work(order: dict[str, Any]) -> None:
    """Make the base model, or quantize it from nothing or from what an earlier process left."""
    base, target = Path(order["base"]), Path(order["target"])
    if not base.exists():
        write_base(base)
        return
    keep_journal(Path(order["journal"]))
    if order["broken"]:
        write_in_place()
    if order["kind"] == "shards":
        patch.object(shards, "WHOLE_LIMIT", 0).start()
    quantize_stage(
        source_of(str(base)),
        VARIANT,
        calibration(),
        target,
        resume=True,
        progress=Silent(),
        verify=False,
    )


def keep_journal(path: Path) -> None:
    """Note every site of a block that is really quantized, past any kill."""
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def noted(model: nn.Module, site: Site, method: Method, stats: LayerStats | None) -> SiteResult:
        if site.role in LINEAR_ROLES:
            os.write(journal, f"{site.name}\n".encode())
        return quantize_site(model, site, method, stats)

    patch.object(sequential, "quantize_site", noted).start()


def write_in_place() -> None:
    """The broken twin: files appear under the final name, without manifest or rename."""

    @contextmanager
    def staging(target: Path, *, key: str, resume: bool = False) -> Iterator[Path]:
        target.mkdir(parents=True)
        yield target

    def opened(path: Path, *, full: bool = False) -> Run:
        return Run(path, "", "")

    def sealed(path: Path, key: RunKey) -> Run | None:
        return opened(path) if path.exists() else None

    patch.object(files, "staging", staging).start()
    patch.multiple(runs, open_run=opened, sealed=sealed).start()


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    provenance.collect()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    serve(work)
