"""What a format of others owes: to write, and to read back what it wrote by the other library."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import EnvironmentLackingError
from quantale.export.source import Source

Grade = Literal["exact", "rounded", "requantized"]
"""How the exported numbers relate to the model's: the same, rounded to half precision, or chosen
anew on a coarser grid."""
WORST: tuple[Grade, ...] = ("exact", "rounded", "requantized")


@dataclass(frozen=True)
class Written:
    """What was written, and what whoever reads it must find."""

    kind: str
    """One of the exporter's types."""
    meant: Mapping[str, Tensor]
    """Parameters of the plain model by name, float32, that the file stands for."""
    grade: Grade
    requantized: tuple[str, ...] = ()
    """Names of weights whose numbers were chosen anew."""
    notes: tuple[str, ...] = ()
    """What a user of the file must know."""
    read_by: str = "transformers"
    """Whose reader verified the file."""
    rounds_inputs: bool = False
    """Whether the other program rounds inputs as our packed layers do."""


class Exporter(Protocol):
    """A format of others: `exporters/NAME.py` holds the class."""

    types: ClassVar[tuple[str, ...]]
    """What `--type` may say; the first is the default."""
    loading: ClassVar[str]
    """Python that loads the export, with FOLDER for where it is."""

    def check(self, source: Source, kind: str) -> None:
        """Raise an error of one line for a model that cannot be written, before any work."""
        ...

    def write(self, source: Source, kind: str, folder: Path) -> Written:
        """Write into a staging folder, in the same bytes every time."""
        ...

    def read_back(self, folder: Path) -> PreTrainedModel:
        """Return the plain float32 model that another program's reader finds in the folder.

        Raises ModelFileError for a folder that is damaged.
        """
        ...


@dataclass
class Grades:
    """Collects the worst grade and its reasons while weights are written."""

    grade: Grade = "exact"
    requantized: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lower(self, grade: Grade, name: str | None = None) -> None:
        """Take a grade down; name: of a weight that was chosen anew."""
        self.grade = max(self.grade, grade, key=WORST.index)
        if name is not None and grade == "requantized":
            self.requantized.append(name)

    def inputs_of(self, source: Source) -> None:
        """Note that layers round their inputs here and not there."""
        if source.rounds_inputs:
            self.lower("requantized")
            self.notes.append("here packed layers also round their inputs; there they do not")


def require(package: str, owner: str) -> None:
    """Raise EnvironmentLackingError when an optional package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise EnvironmentLackingError(
            f"{owner} needs the package {package.replace('_', '-')}: "
            "pip install 'quantale[export,bnb]'"
        )


def plain_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the parameters of a plain model, tied ones once, by name."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}
