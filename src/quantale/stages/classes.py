"""What the page shows of classifiers, read from a sealed evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quantale.core.records import read_json, read_lines
from quantale.evaluation.confusion import report
from quantale.evaluation.proportions import Flips
from quantale.evaluation.stats import Bootstrap
from quantale.report.compare import compare_scored
from quantale.report.lines import read_result
from quantale.report.model import Classification, Estimate
from quantale.report.predicted import predicted_in


def judged_classifiers(margin: float, base: str, evaluated: Path, how: Bootstrap) -> dict[str, Any]:
    """Judge every classifier against the base by accuracy; macro F1 stands beside it."""
    found = {one.model: one for one in predicted_in(read_result(evaluated))}
    others = [one for name, one in found.items() if name != base]
    judged: dict[str, Any] = {"verdict": "PASS", "pairs": [], "bits_per_byte": [], "ties": []}
    if others:
        judged |= compare_scored(found[base], others, margin, how, metric="accuracy")
        by_f1 = compare_scored(found[base], others, margin, how, metric="macro_f1")
        judged["macro_f1"] = by_f1["pairs"]
    return judged


def classifications(evaluated: Path, verdicts: Mapping[str, Any]) -> dict[str, Classification]:
    """Return the classification of every model; empty where language was scored."""
    path = evaluated / "confusion.json"
    if not path.is_file():
        return {}
    numbers = {
        (line["model"], line["metric"]): line for line in read_lines(evaluated / "results.jsonl")
    }
    pairs = {pair["other"]: pair for pair in verdicts["pairs"]}
    return {
        name: _classification(name, content, numbers, pairs.get(name))
        for name, content in read_json(path).items()
    }


def _classification(
    name: str,
    confusion: Mapping[str, Any],
    numbers: Mapping[tuple[str, str], Mapping[str, Any]],
    pair: Mapping[str, Any] | None,
) -> Classification:
    line = numbers[name, "accuracy"]
    delta = flips = None
    if pair is not None:
        delta = Estimate(pair["delta"], pair["ci_low"], pair["ci_high"], pair["n"])
        flips = Flips(pair["broken"], pair["fixed"], pair["n"])
    return Classification(
        matrix=tuple(tuple(row) for row in confusion["matrix"]),
        scores=report(np.array(confusion["matrix"]), confusion["classes"]),
        accuracy=Estimate(line["value"], line["ci_low"], line["ci_high"], line["n"]),
        calibration_error=numbers[name, "calibration_error"]["value"],
        delta_accuracy=delta,
        flips=flips,
    )
