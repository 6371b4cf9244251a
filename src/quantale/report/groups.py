"""Which results are training seeds of one method."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from quantale.report.metrics import Group
from quantale.report.scored import Scored


def grouped(groups: Sequence[Group[Any]]) -> list[Group[Any]]:
    """Join results of one model name whose stated training seeds all differ; order kept.

    A result joins the first group of its name that does not hold its seed yet. One that states no
    seed stays alone, so that nothing is averaged by accident.
    """
    found: list[Group[Any]] = []
    for group in groups:
        place = next((i for i, known in enumerate(found) if _belong(known, group)), None)
        if place is None:
            found.append(group)
        else:
            runs = [*found[place].runs, *group.runs]
            found[place] = Group(tuple(sorted(runs, key=lambda run: run.training_seed)))
    return found


def seed_groups(found: Mapping[int, Sequence[Scored]]) -> dict[str, Group[Any]]:
    """Join the results of each model over the seeds that they are known to be of, by name.

    The first seed comes first. All seeds have the same models.
    """
    runs: dict[str, list[Scored]] = {}
    for seed, scored in found.items():
        for one in scored:
            stated = dataclasses.replace(one, training_seed=str(seed))
            runs.setdefault(one.model, []).append(stated)
    return {name: Group(tuple(same)) for name, same in runs.items()}


def _belong(known: Group[Any], group: Group[Any]) -> bool:
    mine, theirs = ({run.training_seed for run in one.runs} for one in (known, group))
    is_stated = None not in mine | theirs
    return is_stated and known.model == group.model and not mine & theirs
