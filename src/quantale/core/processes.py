"""Which of the processes of one job this is, as `torchrun` says in the environment."""

import os

from quantale.core.errors import EnvironmentLackingError


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """Return how many processes work on this job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def refuse_several(what: str) -> None:
    """Raise EnvironmentLackingError where torchrun started more than one process."""
    if count() > 1:
        raise EnvironmentLackingError(
            f"{what} runs in one process; torchrun is for quantale train, start this without it"
        )
