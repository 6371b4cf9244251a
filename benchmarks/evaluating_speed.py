"""What scoring costs over the forward passes alone: a base and eight variants of one model.

    python -m benchmarks.evaluating_speed

A random GPT-2 of about 10M parameters, eight quantizations of it in memory, 400 stories of the
built-in corpus. "Forward" runs the eight variants one after the other over the same batches and
throws the logits away. "Scores" runs base and variants in one pass and computes all that
`quantale evaluate --base` reports, intervals and quantiles included. The two take turns in every
round, so that a busy machine disturbs both alike; ratios are taken round by round, of the clock's
seconds and of the processor's, which do not count what other programs take. "Peak" is how far the
resident size rose above what it was with all models loaded.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from quantale.data.documents import Documents
from quantale.data.load import load_documents
from quantale.data.tokenizers import train_bpe
from quantale.evaluation.language import LanguageSettings, score
from quantale.evaluation.memory import Phase, measured_phase, resident
from quantale.evaluation.passes import collate, evaluating
from quantale.evaluation.summary import measurements
from quantale.evaluation.windows import Limits, batches, encode, protocol_named
from quantale.quant.ledger import inspect
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import Methods, quantize_model

CONTEXT = 256
SHAPES = {4096: (320, 7, 5), 50257: (160, 6, 4)}
"""Vocabulary to width, layers and heads: about 10M parameters each."""
BITS = (8, 6, 5, 4, 4, 3, 3, 2)
GROUPS: tuple[int | str, ...] = ("row", 32, 32, 32, 16, 32, 16, 16)

Models = Mapping[str, PreTrainedModel]


@dataclass(frozen=True)
class Turn:
    """One measured call."""

    wall: float
    """Seconds."""
    processor: float
    """Seconds, all threads."""
    peak: int
    """Bytes above the size at the start."""


def main() -> None:
    """Make the models, take turns, print."""
    asked = _arguments()
    torch.set_num_threads(asked.threads)
    documents = load_documents(f"storygen[test][:{asked.stories}]")
    tokenizer = train_bpe(documents.texts, 4096)
    for vocabulary in asked.vocabulary:
        for variants in asked.variants:
            models = make_models(vocabulary, variants)
            print(report(models, tokenizer, documents, asked.rounds, asked.batch_size), flush=True)


def make_models(vocabulary: int, variants: int) -> dict[str, PreTrainedModel]:
    """Return the base and its quantizations."""
    width, layers, heads = SHAPES[vocabulary]
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=CONTEXT,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    models: dict[str, PreTrainedModel] = {"base": GPT2LMHeadModel(config).eval()}
    for number in range(variants):
        model = deepcopy(models["base"])
        method = Rtn(BITS[number], GROUPS[number])
        quantize_model(model, Methods(method, method))
        models[f"rtn-{number}"] = model
    return models


def report(
    models: Models,
    tokenizer: PreTrainedTokenizerFast,
    documents: Documents,
    rounds: int,
    batch_size: int,
) -> str:
    """Return ratios and sizes as lines of text."""
    others = {name: model for name, model in models.items() if name != "base"}
    packed = sum(inspect(model).bytes_resident for model in others.values())

    def forward() -> None:
        forward_alone(others, tokenizer, documents, batch_size)

    def scores() -> None:
        found = score(models, tokenizer, documents, LanguageSettings(batch_size=batch_size), "base")
        measurements(found.documents, found.protocol, base="base")

    turns = [(measured(forward), measured(scores)) for _ in range(rounds)]
    base = models["base"]
    lines = [
        f"{base.num_parameters() / 1e6:.1f}M parameters, vocabulary {base.config.vocab_size}, "
        f"{len(others)} variants of {packed / 1e6:.1f} MB in all, {len(documents)} stories, "
        f"{torch.get_num_threads()} thread(s)"
    ]
    for name, kind in (("clock", "wall"), ("processor", "processor")):
        pairs = [(getattr(one, kind), getattr(two, kind)) for one, two in turns]
        ratios = [two / one for one, two in pairs]
        lines.append(
            f"  {name}: forward {statistics.median(one for one, _ in pairs):.2f} s, scores "
            f"{statistics.median(two for _, two in pairs):.2f} s, ratio "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    peaks = [max(turn.peak for turn in column) / 1e6 for column in zip(*turns, strict=True)]
    lines.append(f"  peak: forward {peaks[0]:.0f} MB, scores {peaks[1]:.0f} MB above loaded models")
    return "\n".join(lines)


def forward_alone(
    models: Models, tokenizer: PreTrainedTokenizerFast, documents: Documents, batch_size: int
) -> None:
    """Run each model by itself over the windows that scoring uses; keep nothing."""
    encoded = encode(tokenizer, documents)
    plan = protocol_named("document").plan(encoded, Limits(tokenizer.bos_token_id, CONTEXT))
    for model in models.values():
        positions = (1 << 24) // int(model.config.vocab_size)
        with evaluating([model]):
            for chosen in batches(plan.windows, batch_size, positions):
                batch = collate([plan.windows[i] for i in chosen], "right")
                model(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)


def measured(work: Callable[[], None]) -> Turn:
    """Run once and return what it took."""
    before, phases = resident(), list[Phase]()
    wall, processor = time.perf_counter(), time.process_time()
    with measured_phase("work", phases):
        work()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return Turn(wall, processor, max(0, phases[0].kernel_peak - before))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stories", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, nargs="*", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--variants", type=int, nargs="*", default=[1, 8], help="1 to 8 each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
