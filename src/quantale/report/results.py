"""The page's numbers as `Measurement` lines, so that the next tool need not read a page."""

import math
from collections.abc import Iterator
from typing import Any

from quantale.core.records import Measurement, to_json_line
from quantale.report import writing
from quantale.report.model import Classification, Estimate, ReportData, VariantRow

_ESTIMATES = (
    ("bits_per_byte", "language", "bits/byte"),
    ("perplexity", "language", "per token"),
    ("delta_bits_per_byte", "language", "bits/byte"),
    ("kl_mean", "language", "nats/token"),
    ("top1", "language", "share"),
    ("ms_per_token", "latency", "ms"),
)
_COUNTS = (
    ("bytes_on_disk", "size", "bytes"),
    ("bytes_resident", "size", "bytes"),
    ("bits_per_weight", "size", "bits"),
    ("bits_per_weight_all", "size", "bits"),
    ("parameters", "size", "count"),
    ("ms_per_token_p90", "latency", "ms"),
    ("peak_memory_bytes", "memory", "bytes"),
    ("quantize_seconds", "quantize", "s"),
)
_TUNING = (
    ("seconds", "s"),
    ("tokens", "count"),
    ("peak_memory_bytes", "bytes"),
    ("trainable_parameters", "count"),
)
_NAMES = {"top1": "top1_agreement"}


def result_lines(data: ReportData) -> str:
    """Return one JSON line a number."""
    records = (record for row in data.variants for record in _measurements(row, data))
    written = writing.measurements(data)
    return "".join(to_json_line(record) + "\n" for record in (*records, *written))


def _measurements(row: VariantRow, data: ReportData) -> Iterator[Measurement]:
    for field, task, unit in _ESTIMATES:
        estimate: Estimate | None = getattr(row, field)
        if estimate is not None:
            yield _measurement(row, data, (field, task, unit), estimate)
    if row.classification is not None:
        yield from _classification(row, data, row.classification)
    for field, task, unit in _COUNTS:
        value: float | None = getattr(row, field)
        if value is not None:
            yield _measurement(row, data, (field, task, unit), Estimate(float(value), n=1))
    for field, unit in _TUNING if row.tuning is not None else ():
        taken = Estimate(float(getattr(row.tuning, field)), n=1)
        yield _measurement(row, data, (f"training_{field}", "training", unit), taken)


def _measurement(
    row: VariantRow, data: ReportData, what: tuple[str, str, str], estimate: Estimate
) -> Measurement:
    field, task, unit = what
    is_quality = task in ("language", "classification")
    extra: dict[str, Any] = {}
    if field in ("delta_bits_per_byte", "delta_accuracy"):
        margin = data.margin if data.is_classification else data.margin_bits_per_byte
        given = {"base": data.base, "margin": margin, "verdict": row.verdict,
                 "p_holm": row.p_holm}  # fmt: skip
        extra = {key: value for key, value in given.items() if value is not None}
    return Measurement(
        model=row.name,
        task=task,
        protocol=str(data.protocol.get("protocol", "")) if is_quality else task,
        metric=_NAMES.get(field, field),
        value=estimate.value,
        unit=unit,
        n=estimate.n,
        ci_low=_finite(estimate.low),
        ci_high=_finite(estimate.high),
        kernel=row.kernel,
        data_sha256=str(data.protocol.get("data_sha256", "")) if is_quality else "",
        tokenizer_sha256=str(data.protocol.get("tokenizer_sha256", "")) if is_quality else "",
        extra=extra,
    )


def _classification(
    row: VariantRow, data: ReportData, found: Classification
) -> Iterator[Measurement]:
    scores = found.scores
    for metric, estimate in (
        ("accuracy", found.accuracy),
        ("delta_accuracy", found.delta_accuracy),
        ("macro_precision", Estimate(scores.macro_precision, n=scores.n)),
        ("macro_recall", Estimate(scores.macro_recall, n=scores.n)),
        ("macro_f1", Estimate(scores.macro_f1, n=scores.n)),
        ("calibration_error", Estimate(found.calibration_error, n=scores.n)),
    ):
        if estimate is not None:
            yield _measurement(row, data, (metric, "classification", "share"), estimate)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
