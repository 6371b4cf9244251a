"""`quantale export`: a model in another program's format, verified by that program's reader."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from quantale.cli.arguments import check_exporter, check_models, folder_name
from quantale.cli.options import Debug, Json, Out, Resume, Seed
from quantale.cli.terminal import Terminal, pairs
from quantale.stages.requests import ExportRequest

Format = Annotated[
    str,
    Option("--format", metavar="NAME", help="hf, gguf, gptq, compressed-tensors or bitsandbytes."),
]
Type = Annotated[
    str | None,
    Option("--type", metavar="T", help="Its type, as Q8_0 [default: the format's first]."),
]
Data = Annotated[
    str | None,
    Option("--data", metavar="D", help="Text to compare on [default: the model writes it]."),
]
MaxKl = Annotated[
    float | None,
    Option("--max-kl", min=0.0, help="Divergence that is still published, nats a token."),
]


def export(
    model: Annotated[str, typer.Argument(help="Model directory, .gguf file or Hub name.")],
    format_name: Format = "hf",
    type_name: Type = None,
    data: Data = None,
    samples: Annotated[int, Option("--samples", min=1, help="Windows to compare on.")] = 8,
    length: Annotated[int | None, Option("--length", min=2, help="Tokens a window.")] = None,
    max_kl: MaxKl = None,
    out: Out = None,
    resume: Resume = False,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write MODEL in another program's format; nothing is published that cannot be read back."""
    check_exporter(format_name)
    check_models([model])
    terminal = Terminal(as_json, debug)
    marks = [format_name, *([type_name] if type_name else [])]
    folder = out or Path("runs") / folder_name(model, *marks)
    from quantale.stages.export import export_model

    request = ExportRequest(model, format_name, type_name, data, samples, length, max_kl, seed)
    with terminal.progress() as progress:
        found = export_model(request, folder, resume=resume, progress=progress)
    shown = {**found, "requantized": f"{len(found['requantized'])} weights"}
    terminal.result(found, pairs(shown))
