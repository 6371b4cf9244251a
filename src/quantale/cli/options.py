"""Options that several verbs share, spelled and explained once."""

from pathlib import Path
from typing import Annotated

from typer import Option

Json = Annotated[bool, Option("--json", help="Print one JSON object on stdout.")]
Debug = Annotated[bool, Option("--debug", help="Show the log, and tracebacks of errors.")]
Sets = Annotated[
    list[str],
    Option("--set", metavar="KEY=VALUE", help="Change one value, as train.steps=100; repeatable."),
]
Out = Annotated[Path | None, Option("--out", metavar="DIR", help="Where to write.")]
Resume = Annotated[bool, Option("--resume", help="Go on with an interrupted run of the same work.")]
Seed = Annotated[int, Option("--seed", min=0, help="Seed of everything random.")]
Temperature = Annotated[
    float, Option("--temperature", min=0.0, help="0: always the likeliest token.")
]
TopK = Annotated[int, Option("--top-k", min=0, help="Sample from the likeliest K; 0: from all.")]
MaxNewTokens = Annotated[int, Option("--max-new-tokens", min=1, help="Stop after so many.")]
RecipeSeed = Annotated[
    int | None, Option("--seed", min=0, help="Seed of everything random; short for --set seed=N.")
]
Profile = Annotated[
    str | None, Option("--profile", metavar="NAME", help="Lay this profile over the recipe.")
]
RecipeData = Annotated[
    str | None,
    Option("--data", metavar="D", help="Corpus, Hub name or file; short for --set data=D."),
]


def with_seed(sets: list[str], seed: int | None) -> list[str]:
    """Return the assignments with `--seed` as the last one."""
    return sets if seed is None else [*sets, f"seed={seed}"]


def with_data(sets: list[str], data: str | None) -> list[str]:
    """Return the assignments behind that of `--data`."""
    return sets if data is None else [f"data={data}", *sets]
