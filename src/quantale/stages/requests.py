"""What the command line asks of a stage, as plain values; importing this costs nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from quantale.core.choices import Dtype

if TYPE_CHECKING:
    from quantale.core.recipe_variants import RuleSection
    from quantale.report.margins import Margin


@dataclass(frozen=True)
class QuantizeRequest:
    """One model to quantize."""

    model: str
    """Directory or Hub name."""
    method: str | None
    """Plug-in name for the blocks' linear layers; None where rules alone decide."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The method's fields: bits, group_size, symmetric and its own."""
    rules: "tuple[RuleSection, ...]" = ()
    """Come before the method."""
    embedding_bits: int | None = None
    """None, without a method, leaves embeddings in full precision."""
    embedding_method: str | None = None
    """Plug-in name; None: rtn."""
    head_bits: int | None = None
    """None, without a method, leaves an untied head in full precision."""
    head_method: str | None = None
    """Plug-in name; None: rtn."""
    dtype: Dtype | None = None
    """Of what is not quantized: float32, float16 or bfloat16; None: the checkpoint's own."""
    calibration: str | None = None
    """What calibrates, in the grammar of `--data`; None: text that the model writes."""
    samples: int = 64
    """Calibration windows."""
    length: int | None = None
    """Tokens a window; None for the model's context, 2,048 at most."""
    seed: int = 0
    """Which windows are drawn, or written."""


@dataclass(frozen=True)
class HealRequest:
    """One packed model to heal."""

    model: str
    """Directory or Hub name of the packed model."""
    teacher: str
    """Of the one in full precision."""
    data: str
    """What it reads, in the grammar of `--data`."""
    parts: str = "scales,zeros,norms,biases"
    """What is trained."""
    steps: int = 300
    """Optimizer steps."""
    batch_size: int = 8
    """Windows a step."""
    learning_rate: float = 1e-2
    """Peak rate."""
    temperature: float = 1.0
    """Of both models' distributions."""
    label_weight: float = 0.0
    """Share of the text's cross-entropy in the loss."""
    seed: int = 0
    """Of what is drawn from the data."""


@dataclass(frozen=True)
class LadderRequest:
    """One model to make small, by the cheapest rung that loses little enough."""

    model: str
    """Directory or Hub name of the model in full precision."""
    data: str
    """What it is trained and measured on, in the grammar of `--data`."""
    bits: str
    """Of a weight: "1.58" for ternary, or 1 to 8."""
    loss: float
    """Largest rise of perplexity that is good enough, as a share."""
    steps: int = 300
    """Optimizer steps of each rung that trains."""
    batch_size: int = 8
    """Windows a step."""
    documents: int = 100
    """Validation documents that are measured."""
    stop_after: str | None = None
    """Name of the last rung that may be tried; None: all."""
    seed: int = 0
    """Of what is drawn from the data."""


@dataclass(frozen=True)
class MergeRequest:
    """One adapter to merge, and the text that checks it."""

    adapter: str
    """Its directory."""
    data: str
    """Text on which the result is held against the adapter, in the grammar of `--data`."""
    into: str | None = None
    """Another model in full precision to merge into; None: the adapter's base, dequantized."""
    quantized: QuantizeRequest | None = None
    """How the merged model is quantized; its `model` is not read."""
    margin: float = 0.01
    """Nats a token that each step may cost."""
    limit: int = 64
    """Documents."""
    seed: int = 0
    """Of the data's split."""


@dataclass(frozen=True)
class BenchRequest:
    """Models to time beside one another; every combination of the three sweeps is timed."""

    models: tuple[str, ...]
    """Directories or Hub names; the first is what the others are held against."""
    batches: tuple[int, ...] = (1,)
    """Sequences decoded together."""
    threads: tuple[int, ...] = ()
    """Of a process; none: as many as this process may use."""
    prompts: tuple[int, ...] = (16,)
    """Tokens of the prompt."""
    new_tokens: int = 64
    """Tokens decoded after it."""
    rounds: int = 6
    """Processes a model."""
    runs: int = 5
    """Timed repetitions a process."""
    kernels: str = "fast"
    """"fast" or "exact"."""
    device: str = "cpu"
    """As torch names it."""
    seed: int = 0
    """Of the prompt's tokens."""


@dataclass(frozen=True)
class EvaluateRequest:
    """Models to score on the same text."""

    models: tuple[str, ...]
    """Directories or Hub names."""
    data: str
    """In the grammar of `--data`."""
    base: str | None = None
    """Model that the others are measured against."""
    protocol: str = "document"
    """How text becomes scored tokens: document, blocks:N, stride:N or llamacpp:N."""
    limit: int | None = None
    """First documents only."""
    batch_size: int = 16
    """Windows a forward pass; does not change results."""
    seed: int = 0
    """Of generated corpora and the bootstrap."""


@dataclass(frozen=True)
class ClassifyRequest:
    """Models that say which class each text is of."""

    models: tuple[str, ...]
    """Directories or Hub names."""
    data: str
    """In the grammar of `--data`; its rows have a label."""
    base: str | None = None
    """Model whose right answers the others' are set against."""
    label: str = "label"
    """Column of the labels."""
    classes: tuple[str, ...] | None = None
    """Names in the order of their numbers; None: what the model's head or the data says."""
    route: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `ClassificationSettings` that were given."""
    limit: int | None = None
    """First documents only."""
    seed: int = 0
    """Of generated corpora and the bootstrap."""


@dataclass(frozen=True)
class StoriesRequest:
    """Models that write on the same prompts."""

    models: tuple[str, ...]
    """Directories or Hub names."""
    data: str
    """Whose unseen documents are continued, in the grammar of `--data`."""
    base: str | None = None
    """Model that the others are compared with."""
    training: str | None = None
    """What the models were trained on; None: the training part of `data`."""
    seed: int = 0
    """Of generated corpora and the bootstrap."""


@dataclass(frozen=True)
class CompareRequest:
    """Language models to judge against a base."""

    base: str
    """Directory or Hub name."""
    others: tuple[str, ...]
    """The same, of the models that are judged."""
    data: str
    """In the grammar of `--data`."""
    metric: str = "perplexity"
    """perplexity or bits_per_byte."""
    margin: "Margin | None" = None
    """Loss that is called equal; None: the metric's own."""
    seed: int = 0
    """Of generated corpora and the bootstrap."""


@dataclass(frozen=True)
class ExportRequest:
    """One model to write in a format of others."""

    model: str
    """Directory, file or Hub name."""
    format: str
    """Plug-in name of an exporter."""
    type: str | None = None
    """One of the exporter's types; None: its first, or the model's own."""
    data: str | None = None
    """Text on which the divergence is measured; None: text that the model writes itself."""
    samples: int = 8
    """Windows of it."""
    length: int | None = None
    """Tokens a window; None: the model's context, 128 at most."""
    max_kl: float | None = None
    """Divergence that is still published, nats a token; None: as the grade says."""
    seed: int = 0
    """Which windows are drawn, or written."""


@dataclass(frozen=True)
class PushRequest:
    """One model directory to upload."""

    model: str
    """Directory."""
    repo: str
    """NAME or OWNER/NAME on the Hub."""
    form: str = "hf"
    """Which form, or "both"."""
    private: bool = False
    """Whether only the owner sees it."""
    results: str | None = None
    """Records or run folder that the card is made from; None: those around the directory."""
    base_model: str | None = None
    """Name of the base on the Hub; None: what the records know."""
    licence: str | None = None
    """Identifier of the licence, such as apache-2.0; None: not said."""
