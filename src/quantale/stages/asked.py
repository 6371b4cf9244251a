"""The command line that asks for an experiment again."""

import json
import shlex
from typing import Any

from quantale.core.recipe_file import ResolvedRecipe


def command_of(resolved: ResolvedRecipe, group: str | None = None) -> str:
    """Return the command line that asks for this recipe or group again, every `--set` included."""
    values = resolved.recipe.model_dump(mode="json")
    words = ["quantale", "run", resolved.source]
    if resolved.profile is not None:
        words += ["--profile", resolved.profile]
    if group is not None:
        words += ["--only", group]
    for key, origin in resolved.origins.items():
        if origin == "--set":
            found: Any = values
            for part in key.split("."):
                found = found[int(part) if isinstance(found, list) else part]
            words += ["--set", f"{key}={json.dumps(found)}"]
    return shlex.join(words)
