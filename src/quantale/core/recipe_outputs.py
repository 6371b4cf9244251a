"""The section of a recipe that names folders of files as their users know them."""

from typing import Literal, Self

from pydantic import model_validator

from quantale.core.recipe_base import Section, Text, broken_rule
from quantale.core.recipe_variants import BASELINE, FOLDER_NAME, VariantSection

Content = Literal[
    "model", "kept-checkpoint", "training-arguments", "metrics", "summary", "report", "confusion"
]


class OutputFile(Section):
    """One file or folder."""

    path: Text
    """Below the folder; "." is the folder itself."""
    holds: Content
    """A model's files, its training's kept checkpoint or arguments, or what was measured.

    confusion: a picture of the confusion matrix, PNG.
    """
    of: tuple[Text, ...]
    """Names of the models, fp32 for the base; one but for metrics and summaries."""

    @model_validator(mode="after")
    def _path_is_below(self) -> Self:
        parts = self.path.split("/")
        if self.path != "." and not all(FOLDER_NAME.fullmatch(part) for part in parts):
            raise broken_rule("path", f"{self.path!r} is not safe as the name of a file")
        if len(self.of) != 1 and self.holds not in ("metrics", "summary"):
            raise broken_rule("of", f"a {self.holds} is of one model")
        return self


class OutputSection(Section):
    """A folder that is written when all its models are there and measured."""

    folder: Text
    """Its name, in the folder of the run."""
    group: Text
    """The group of variants after which it is written."""
    files: tuple[OutputFile, ...]

    @model_validator(mode="after")
    def _folder_is_a_name(self) -> Self:
        if not FOLDER_NAME.fullmatch(self.folder):
            raise broken_rule("folder", f"{self.folder!r} is not safe as a folder name")
        return self


def check_outputs(
    outputs: tuple[OutputSection, ...], variants: tuple[VariantSection, ...], base: str
) -> None:
    """Raise for a group or model that does not exist, or a folder that is named twice."""
    groups = [BASELINE, *dict.fromkeys(v.group for v in variants if v.group is not None)]
    models = {base, *(variant.name for variant in variants)}
    for index, output in enumerate(outputs):
        if output.group not in groups:
            reason = f"{output.group!r} is none of {', '.join(groups)}"
            raise broken_rule(f"outputs.{index}.group", reason)
        if output.folder in [other.folder for other in outputs[:index]]:
            reason = f"{output.folder!r} is there already"
            raise broken_rule(f"outputs.{index}.folder", reason)
        for number, file in enumerate(output.files):
            odd = sorted(set(file.of) - models)
            if odd:
                where = f"outputs.{index}.files.{number}.of"
                raise broken_rule(where, f"{odd[0]!r} is no model of the recipe")
