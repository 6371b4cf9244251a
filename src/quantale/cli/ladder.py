"""`quantale ladder`: the cheapest way to few bits that loses little enough."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from quantale.cli.arguments import check_models, folder_name
from quantale.cli.options import Debug, Json, Out, Resume, Seed
from quantale.cli.terminal import Terminal, pairs, table
from quantale.core.errors import GateError
from quantale.stages.requests import LadderRequest

_COLUMNS = (
    "rung",
    "bytes_on_disk",
    "bits_per_weight",
    "rise",
    "rise_low",
    "rise_high",
    "kl",
    "seconds",
    "processor_seconds",
    "verdict",
)


def ladder(
    model: Annotated[str, typer.Argument(help="Directory or Hub name, in full precision.")],
    data: Annotated[str, Option("--data", metavar="D", help="Corpus, Hub name or file.")],
    bits: Annotated[str, Option("--bits", metavar="N", help="1, 1.58 (ternary), 2 to 8.")],
    loss: Annotated[
        float, Option("--loss", min=0.0, help="Rise of perplexity that is allowed: 0.03 is 3 %.")
    ] = 0.03,
    steps: Annotated[int, Option("--steps", min=2, help="Steps a rung.")] = LadderRequest.steps,
    batch_size: Annotated[
        int, Option("--batch-size", min=1, help="Windows a step.")
    ] = LadderRequest.batch_size,
    documents: Annotated[
        int, Option("--documents", min=2, help="Validation documents that are measured.")
    ] = LadderRequest.documents,
    stop_after: Annotated[
        str | None, Option("--stop-after", metavar="RUNG", help="The last rung to try.")
    ] = None,
    out: Out = None,
    resume: Resume = False,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Climb from quantizing MODEL to training it, as far as the loss asks; none fits: exit 10."""
    check_models([model])
    terminal = Terminal(as_json, debug)
    folder = out or Path("runs") / folder_name(model, f"ladder-{bits}")
    request = LadderRequest(model, data, bits, loss, steps, batch_size, documents, stop_after, seed)
    from quantale.stages.ladder import ladder as climb

    with terminal.progress() as progress:
        result = climb(request, folder, resume=resume, progress=progress)
    terminal.result(result, f"{table(result['rungs'], _COLUMNS)}\n\n{pairs(result)}")
    if not result["met"]:
        best = min(row["rise_high"] for row in result["rungs"])
        raise GateError(
            f"no rung stays below a rise of {loss:.2%}; the best is known to lie below "
            f"{best:+.2%}, {result['chosen']} is kept in {result['out']}; allow a larger --loss, "
            "more --bits or more --steps"
        )
