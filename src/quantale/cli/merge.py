"""`quantale merge`: an adapter into full precision, checked at each step."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from quantale.cli.arguments import check_models, folder_name
from quantale.cli.options import Debug, Json, Out, Resume, Seed, Sets
from quantale.cli.quantize import (
    Bits,
    DtypeOption,
    EmbeddingBits,
    GroupSize,
    Preset,
    check_choices,
    merge_settings,
    parse_group_size,
    parse_preset,
)
from quantale.cli.terminal import EXIT_CODES, Terminal, pairs, table
from quantale.core.errors import UsageError
from quantale.stages.requests import MergeRequest, QuantizeRequest

_COLUMNS = ("step", "kl_mean", "ci_low", "ci_high", "n", "margin", "verdict")

Data = Annotated[
    str, Option("--data", metavar="D", help="Text on which each step is held against the adapter.")
]
Into = Annotated[
    str | None,
    Option(
        "--into",
        metavar="M",
        help="Merge into this model in full precision [default: the base, dequantized].",
    ),
]
Quantize = Annotated[
    str | None, Option("--quantize", metavar="METHOD", help="Quantize the merged model.")
]
Margin = Annotated[
    float, Option("--margin", min=0.0, help="Divergence that a step may cost, nats a token.")
]
Limit = Annotated[int, Option("--limit", min=2, help="Documents of the text.")]


def merge(
    adapter: Annotated[str, typer.Argument(help="Adapter directory.")],
    data: Data,
    into: Into = None,
    quantize: Quantize = None,
    preset: Preset = None,
    bits: Bits = None,
    group_size: GroupSize = None,
    embedding_bits: EmbeddingBits = None,
    dtype: DtypeOption = None,
    margin: Margin = MergeRequest.margin,
    limit: Limit = MergeRequest.limit,
    sets: Sets = [],  # noqa: B006  typer's way to say "none given"
    out: Out = None,
    resume: Resume = False,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Merge ADAPTER into full precision, perhaps quantize it; PASS (exit 0), FAIL (10) or 11."""
    given = {"bits": bits, "group_size": parse_group_size(group_size)}
    settings = merge_settings(parse_preset(preset), given, sets)
    quantized = None
    if quantize is None:
        if settings or embedding_bits is not None or dtype is not None:
            raise UsageError("the settings of a method need --quantize METHOD")
    else:
        check_choices(quantize, None, None, None)
        quantized = QuantizeRequest(
            adapter, quantize, settings, embedding_bits=embedding_bits, dtype=dtype, seed=seed
        )
    check_models([adapter, *([into] if into else [])])
    terminal = Terminal(as_json, debug)
    folder = out or Path("runs") / folder_name(adapter, "merged")
    from quantale.stages.merge import merge_adapter

    request = MergeRequest(adapter, data, into, quantized, margin, limit, seed)
    with terminal.progress() as progress:
        found = merge_adapter(request, folder, resume=resume, progress=progress)
    text = f"{table(found['steps'], _COLUMNS)}\n{pairs(found)}"
    terminal.result(found, text)
    raise typer.Exit(EXIT_CODES[found["verdict"]])
