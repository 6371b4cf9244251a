"""`quantale generate`: let a model write."""

from typing import Annotated

import typer

from quantale.cli.arguments import check_models
from quantale.cli.options import Debug, Json, Seed
from quantale.cli.terminal import Terminal


def generate(
    model: Annotated[str, typer.Argument(help="Model directory or Hub name.")],
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="The beginning.")] = "",
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="Stop after so many.")
    ] = 200,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="0: always the likeliest token.")
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Sample from the likeliest K.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option("--top-p", min=1e-6, max=1.0, help="... with this joint share.")
    ] = None,
    seed: Seed = 0,
    exact: Annotated[
        bool, typer.Option("--exact", help="Kernels that keep to the format's result bit for bit.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Continue a prompt."""
    check_models([model])
    terminal = Terminal(as_json, debug)
    from quantale.stages.generate import generate_text

    result = generate_text(
        model,
        prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        exact=exact,
    )
    terminal.result(result, result["text"])
