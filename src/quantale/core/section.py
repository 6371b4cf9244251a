"""What every part of a recipe is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Base of every part of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def broken_rule(field: str, reason: str) -> PydanticCustomError:
    """Return the error of a rule over several values; `field` (dotted) is where to point."""
    return PydanticCustomError("recipe_rule", "{reason}", {"reason": reason, "field": field})
