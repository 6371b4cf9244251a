"""The memory that a model takes to read a batch of texts, each model in a process of its own."""

from collections.abc import Mapping
from pathlib import Path

from quantale.evaluation.fresh import Job, server
from quantale.evaluation.latency import peaks

_LOADER = "quantale.evaluation.decode:load_pretrained"


def reading_memory(
    folders: Mapping[str, Path], *, length: int, batch: int, threads: int
) -> dict[str, dict[str, int]]:
    """Return "resident_before" and "peak_rss_bytes" of every model, bytes.

    Loads the model, then reads `batch` rows of `length` tokens. The first number is the process
    with its libraries, before any model.
    """
    found = {}
    with server(threads) as running:
        for name, folder in folders.items():
            job = Job(str(folder), _LOADER, None, length, 0, batch, 1, threads, 0, fast=False)
            running.rehearse(job)
            answer = running.measure(job)
            found[name] = {
                "resident_before": answer.result["resident_before"],
                "peak_rss_bytes": max(peaks([answer]).values()),
            }
    return found
