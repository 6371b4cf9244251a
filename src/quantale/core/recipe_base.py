"""What every section of a recipe is built from: the strict base and the common types."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Scalar = bool | int | float | str | None
Count = Annotated[int, Field(ge=1)]
Bits = Annotated[int, Field(ge=1, le=8)]
GroupSize = Annotated[int, Field(ge=2)] | Literal["row", "tensor"]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Base of every part of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def broken_rule(field: str, reason: str) -> PydanticCustomError:
    """Return the error of a rule over several values; `field` (dotted) is where to point."""
    return PydanticCustomError("recipe_rule", "{reason}", {"reason": reason, "field": field})
