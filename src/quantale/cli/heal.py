"""`quantale heal`: let a packed model learn from its original, its codes frozen."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from quantale.cli.arguments import check_models, folder_name
from quantale.cli.options import Debug, Json, Out, Resume, Seed
from quantale.cli.terminal import Terminal, pairs
from quantale.stages.requests import HealRequest


def heal(
    model: Annotated[str, typer.Argument(help="Directory or Hub name of the packed model.")],
    teacher: Annotated[str, Option("--teacher", metavar="T", help="It in full precision.")],
    data: Annotated[str, Option("--data", metavar="D", help="Corpus, Hub name or file.")],
    parts: Annotated[
        str, Option("--parts", help="Some of scales,zeros,norms,biases; or adapters alone.")
    ] = HealRequest.parts,
    steps: Annotated[int, Option("--steps", min=1, help="Optimizer steps.")] = HealRequest.steps,
    batch_size: Annotated[
        int, Option("--batch-size", min=1, help="Windows a step.")
    ] = HealRequest.batch_size,
    learning_rate: Annotated[
        float, Option("--learning-rate", help="Peak rate; of scales, a share of each a step.")
    ] = HealRequest.learning_rate,
    temperature: Annotated[
        float, Option("--temperature", help="Of both models' distributions.")
    ] = HealRequest.temperature,
    label_weight: Annotated[
        float, Option("--label-weight", min=0.0, max=1.0, help="Share of the text in the loss.")
    ] = HealRequest.label_weight,
    out: Out = None,
    resume: Resume = False,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train scales, zero points, norms and biases of MODEL; its size stays the same to the byte."""
    check_models([model, teacher])
    terminal = Terminal(as_json, debug)
    folder = out or Path("runs") / folder_name(model, "healed")
    request = HealRequest(
        model,
        teacher,
        data,
        parts,
        steps,
        batch_size,
        learning_rate,
        temperature,
        label_weight,
        seed,
    )
    from quantale.stages.heal import heal_model

    with terminal.progress() as progress:
        result = heal_model(request, folder, resume=resume, progress=progress)
    terminal.result(result, pairs(result))
