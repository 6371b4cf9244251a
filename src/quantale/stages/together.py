"""One run that several processes make: the first writes it, all work on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from quantale.core import files, processes
from quantale.core import run as runs
from quantale.core.errors import UsageError
from quantale.core.progress import Progress, Silent
from quantale.core.run import RunKey
from quantale.tuning.distribution import Group


def is_made(path: Path, key: RunKey) -> bool:
    """Say whether the run is sealed: the first process looks, since others may be elsewhere."""
    if processes.count() == 1:
        return runs.sealed(path, key) is not None
    group = Group()
    found = group.is_first and runs.sealed(path, key) is not None
    return bool(group.add(torch.tensor(int(found))))


@contextmanager
def making_together(path: Path, key: RunKey, *, resume: bool = False) -> Iterator[Path]:
    """Hand out the staging folder of a new run to all processes, as `runs.making` does to one.

    Only the first may write in it; all go on when it is sealed.
    """
    if processes.count() == 1:
        with runs.making(path, key, resume=resume) as folder:
            yield folder
        return
    group = Group()
    if group.is_first:
        with runs.making(path, key, resume=resume) as folder:
            group.wait()
            yield folder
    else:
        group.wait()
        yield files.staging_folder(path)
    group.wait()


def heard(progress: Progress) -> Progress:
    """Return the listener of this process: one process reports for all."""
    return progress if processes.rank() == 0 else Silent()


def check_rows(batch_size: int) -> None:
    """Raise UsageError where there are more processes than rows in a batch."""
    if batch_size < processes.count():
        raise UsageError(
            f"a batch of {batch_size} rows cannot be shared among {processes.count()} processes; "
            "start fewer, or raise batch_size and lower accumulation"
        )


def leave() -> None:
    """End the group of processes, at the end of the work."""
    if processes.count() > 1:
        Group().leave()
