"""What the page is made from: plain frozen records, filled by a stage from sealed runs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from quantale.evaluation.confusion import ClassificationReport
from quantale.evaluation.proportions import Flips
from quantale.evaluation.votes import Standing

Outcome = Literal["PASS", "FAIL", "CANNOT TELL"]


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    """How many independent things (documents, runs) it rests on; 0 when not stated."""

    @property
    def has_interval(self) -> bool:
        """Say whether both ends are known and finite."""
        return all(end is not None and math.isfinite(end) for end in (self.low, self.high))

    @property
    def drawn(self) -> tuple[float, float]:
        """The interval when it can be drawn; otherwise the value twice."""
        return self.ends if self.has_interval else (self.value, self.value)

    @property
    def ends(self) -> tuple[float, float]:
        """The interval, infinite where one document was too few; unknown ends are the value."""
        return (
            self.value if self.low is None else self.low,
            self.value if self.high is None else self.high,
        )

    @property
    def points(self) -> "Estimate":
        """The same in hundredths: an accuracy in percent, a difference of two in points."""
        low, high = (None if end is None else 100 * end for end in (self.low, self.high))
        return Estimate(100 * self.value, low, high, self.n)

    def overlaps(self, other: "Estimate") -> bool:
        """Say whether the two intervals share a value."""
        (low, high), (other_low, other_high) = self.ends, other.ends
        return low <= other_high and other_low <= high


@dataclass(frozen=True)
class TrainPoint:
    """One logged loss of the training run."""

    step: int
    split: Literal["train", "validation"]
    loss: float
    """Nats per token."""


@dataclass(frozen=True)
class Site:
    """One weight in the ledger of a variant."""

    name: str
    role: str
    shape: tuple[int, int]
    method: str
    format: str
    bits_per_weight: float
    nbytes: int
    kernel: str = ""


@dataclass(frozen=True)
class VariantRow:
    """Everything known about one model: the base or a quantized variant of it."""

    name: str
    method: str
    bytes_on_disk: int
    """Whole files needed for inference."""
    bits: int | None = None
    group_size: int | str | None = None
    bytes_resident: int | None = None
    bits_per_weight: float | None = None
    """Over the quantized weights, scales and zeros included."""
    bits_per_weight_all: float | None = None
    parameters: int | None = None
    components: Mapping[str, int] = field(default_factory=dict)
    """Bytes on disk of linear, embedding, head, norm, other, metadata."""
    bits_per_byte: Estimate | None = None
    perplexity: Estimate | None = None
    delta_bits_per_byte: Estimate | None = None
    """Paired difference to the base; positive is worse."""
    kl_mean: Estimate | None = None
    """Nats per token."""
    top1: Estimate | None = None
    """Share of tokens, 0 to 1, whose most likely next token is the base's."""
    verdict: Outcome | None = None
    p_holm: float | None = None
    """p-value of "different from the base", Holm-corrected over all variants."""
    n_to_tell: int | None = None
    """How many documents would decide a CANNOT TELL."""
    ms_per_token: Estimate | None = None
    """Decoding, batch 1, median."""
    ms_per_token_p90: float | None = None
    peak_memory_bytes: int | None = None
    kernel: str = ""
    layer_errors: tuple[tuple[str, float], ...] = ()
    """Site name and relative error (root of squared error over squared output), model order."""
    sites: tuple[Site, ...] = ()
    """The ledger, model order."""
    documents: tuple[tuple[float, float], ...] = ()
    """Of every document, bits per byte of the base and how many more this variant needs."""
    verified: bool | None = None
    """Reloaded in a fresh process with bit-equal logits."""
    samples: tuple[str, ...] = ()
    """Continuation of each prompt, in the order of `ReportData.prompts`."""
    quantize_seconds: float | None = None
    tuning: "Tuning | None" = None
    """Its own training; None: it had none."""
    classification: "Classification | None" = None
    """Of a classifier; takes the place of the language numbers."""


@dataclass(frozen=True)
class Tuning:
    """What the training of one model took."""

    seconds: float
    tokens: int
    peak_memory_bytes: int
    """Of the GPU where there was one, else of the process."""
    trainable_parameters: int
    parameters: int
    """Of the model that was trained, adapters included."""


@dataclass(frozen=True)
class SweepPoint:
    """One value of a sweep, and the variant that has it."""

    value: str
    variant: str


@dataclass(frozen=True)
class SweepLine:
    """What one method does over the values of one setting."""

    key: str
    """The setting, as a recipe names it."""
    name: str
    """The method."""
    points: tuple[SweepPoint, ...]


@dataclass(frozen=True)
class Classification:
    """What a classifier got right and wrong."""

    matrix: tuple[tuple[int, ...], ...]
    """Counts, rows true and columns predicted, in the order of the classes."""
    scores: ClassificationReport
    accuracy: Estimate
    calibration_error: float
    delta_accuracy: Estimate | None = None
    """Paired difference to the base; negative is worse."""
    flips: Flips | None = None
    """Against the base."""


@dataclass(frozen=True)
class Written:
    """What a stage measured of texts that the models wrote."""

    records: tuple[Mapping[str, Any], ...] = ()
    """As in `results.jsonl`: the fields of a `Measurement`."""
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """One experiment, ready to be shown."""

    title: str
    base: str
    """Name of the variant that all others are compared with."""
    variants: tuple[VariantRow, ...]
    description: str = ""
    margin: float = 0.01
    """Declared margin: relative perplexity, or of classifiers a share of the documents."""
    training: tuple[TrainPoint, ...] = ()
    training_seeds: int = 1
    best_step: int | None = None
    """The training step whose model was kept."""
    prompts: tuple[str, ...] = ()
    ties: tuple[tuple[str, str], ...] | None = None
    """Pairs that a paired test cannot tell apart; None: judged by overlap of intervals."""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    warnings: tuple[str, ...] = ()
    written: Mapping[str, Written] = field(default_factory=dict)
    """By kind: "stories", "code"."""
    sweeps: tuple[SweepLine, ...] = ()
    votes: tuple[Standing, ...] = ()
    """Blind votes between the variants, a pair each."""

    @property
    def base_row(self) -> VariantRow:
        """The row named `base`; raises KeyError when there is none."""
        for row in self.variants:
            if row.name == self.base:
                return row
        raise KeyError(self.base)

    @property
    def unit(self) -> str:
        """What is resampled: "document", or "block" where the protocol joins all texts."""
        return str(self.protocol.get("unit", "document"))

    @property
    def is_classification(self) -> bool:
        """Say whether the models are classifiers."""
        return self.base_row.classification is not None

    @property
    def others(self) -> tuple[VariantRow, ...]:
        """All rows but the base."""
        return tuple(row for row in self.variants if row.name != self.base)

    @property
    def margin_bits_per_byte(self) -> float | None:
        """The margin in the unit of the paired difference; None without a base measurement."""
        per_token = bits_per_byte_of_a_nat(self.base_row)
        return None if per_token is None else math.log1p(self.margin) * per_token


def bits_per_byte_of_a_nat(row: VariantRow) -> float | None:
    """Return how many bits per byte one nat per token is on this data and tokenizer."""
    if row.perplexity is None or row.bits_per_byte is None or row.perplexity.value <= 1.0:
        return None
    return row.bits_per_byte.value / math.log(row.perplexity.value)
