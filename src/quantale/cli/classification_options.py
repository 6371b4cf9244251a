"""Options of `quantale evaluate --task classification`."""

from typing import Annotated

from typer import Option

Route = Annotated[
    str | None, Option("--route", help="Classification: head (default) or likelihood of a word.")
]
Label = Annotated[str | None, Option("--label", help="Classification: column of the labels.")]
Classes = Annotated[
    str | None, Option("--classes", metavar="A,B,...", help="Names of classes 0, 1, ...")
]
Length = Annotated[int | None, Option("--length", min=1, help="Classification: tokens of a text.")]
Template = Annotated[
    str | None, Option("--template", help="Likelihood: prompt with {text} in it; \\n is a line.")
]
Words = Annotated[
    str | None, Option("--words", metavar="A,B,...", help="Likelihood: the word for each class.")
]
Normalise = Annotated[
    str | None, Option("--normalise", help="Likelihood of a word: sum, or per token or byte.")
]
