"""LoRA in its forms: low-rank adapters beside frozen linear layers, in full precision or packed.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685, equation 3:
W' = W + (alpha / r) B A with B = 0 at the start. Over a packed base it is QLoRA (Dettmers et al.,
arXiv 2305.14314), whatever the packed format is. rsLoRA (Kalajdzievski, arXiv 2312.03732) scales
by alpha / sqrt(r); DoRA (Liu et al., arXiv 2402.09353) trains the norms of the rows apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from quantale.core.errors import NumericalError, UsageError
from quantale.models.adapters import put_on
from quantale.quant.globs import Glob
from quantale.quant.ledger import stored_sites
from quantale.quant.merging import merged
from quantale.quant.proof import proof_tokens
from quantale.quant.sites import LINEAR_ROLES, list_sites
from quantale.tuning.method import Order, Start, Work
from quantale.tuning.methods.full import Full

Initial = Literal["kaiming", "gaussian", "orthogonal"]
_MERGED_KL = 1e-4
"""Nats a token that merging into full precision may cost; rounding costs less than a hundredth."""


@dataclass(frozen=True)
class Lora:
    """Cross-entropy over the parameters of adapters; everything else is frozen."""

    needs_teacher: ClassVar[bool] = False

    rank: int = 16
    """Columns of B, rows of A."""
    alpha: float = 32.0
    """The change is scaled by alpha / rank."""
    dropout: float = 0.05
    """Probability of dropping an input of A."""
    targets: str = ""
    """Which linear layers of the blocks: names of their last part or patterns over whole names,
    with commas between: `q_proj,v_proj`, `**.attn.*`. Empty: all."""
    init: Initial = "kaiming"
    """How A begins; B begins as zeros (orthogonal: both begin orthogonal to each other)."""
    rslora: bool = False
    """Whether the change is scaled by alpha / sqrt(rank)."""
    dora: bool = False
    """Whether the norm of every row of W' is a parameter of its own."""
    biases: bool = False
    """Whether the model's biases are trained too."""
    merge: bool = False
    """Whether the adapter is merged into full precision, and the result quantized after it."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise UsageError(
                f"lora wants rank from 1, alpha above 0, dropout from 0 to below 1; "
                f"{self.rank}, {self.alpha:g}, {self.dropout:g} came"
            )

        if self.init == "orthogonal" and self.rank % 2:
            raise UsageError(f"lora: orthogonal init wants an even rank; {self.rank} came")

    @property
    def order(self) -> Order:
        """Adapters that stay lie over the quantized model; merged ones come before quantizing."""
        return "tune-first" if self.merge else "quantize-first"

    def begin(self, start: Start) -> Work:
        """Put new adapters into the model."""
        if start.base is None and not self.merge:
            raise UsageError(
                "an adapter needs a base that is a saved model; train that first, or set merge"
            )
        is_packed = bool(stored_sites(start.model))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(start.seed)
            put_on(start.model, self.config(start.model, start.base))
        objective = Full()  # over what peft left free
        if not self.merge:
            return Work(start.model, objective, lambda: start.model, maps=is_packed)
        merging = _Merging(start.model)
        return Work(start.model, objective, merging.finish, lambda: merging.record, maps=is_packed)

    def config(self, model: PreTrainedModel, base: str | None = None) -> LoraConfig:
        """Return the adapter's configuration as peft knows it; raises UsageError."""
        head = _head_of_classes(model)
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=target_layers(model, self.targets),
            init_lora_weights={"kaiming": True}.get(self.init, self.init),
            use_rslora=self.rslora,
            use_dora=self.dora,
            bias="all" if self.biases else "none",
            modules_to_save=[head] if head else None,
            task_type="SEQ_CLS" if head else "CAUSAL_LM",
            base_model_name_or_path=base,
        )


def target_layers(model: PreTrainedModel, targets: str = "") -> list[str]:
    """Return the names of the linear layers of the blocks that patterns choose; all for "".

    Raises UsageError for a pattern that chooses none.
    """
    packed = {site.name: site.role for site in stored_sites(model)}
    roles = packed | {site.name: site.role for site in list_sites(model)}
    layers = [n for n, _ in model.named_modules() if roles.get(n) in LINEAR_ROLES]
    wanted = [text.strip() for text in targets.split(",") if text.strip()]
    if not wanted:
        return layers
    found: dict[str, None] = {}
    for pattern in wanted:
        is_plain = pattern.replace("_", "").isalnum()
        glob = Glob(f"**.{pattern}" if is_plain else pattern)
        chosen = dict.fromkeys(name for name in layers if glob.fits(name))
        if not chosen:
            last = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in layers))
            raise UsageError(f"lora: targets {pattern!r} fits no linear layer; there are {last}")
        found |= chosen
    return [name for name in layers if name in found]


def _head_of_classes(model: PreTrainedModel) -> str | None:
    """Return the name of a classifier's head, which has to be trained with the adapters."""
    if model.get_output_embeddings() is not None:
        return None
    body = {id(module) for module in model.base_model.modules()}
    names = (n for n, m in model.named_modules() if n and m is not model and id(m) not in body)
    return next(names, None)


@dataclass
class _Merging:
    """Merges once the training is done, and tells how far that moved the model."""

    model: PreTrainedModel
    record: Mapping[str, Any] = field(default_factory=dict)

    def finish(self) -> PreTrainedModel:
        """Return the merged model; raises NumericalError when it computes something else."""
        plain = merged(self.model)
        kl = proof_divergence(self.model, plain)
        self.record = {"merged_kl": kl}
        is_exact = not stored_sites(self.model)
        if is_exact and kl > _MERGED_KL:
            raise NumericalError(f"the merged model is {kl:.3g} nats a token from the unmerged one")
        return plain


@torch.no_grad()
def proof_divergence(model: PreTrainedModel, other: PreTrainedModel) -> float:
    """Return the mean KL from one model to another on the fixed random tokens of the proof."""
    tokens = proof_tokens(model)
    ours, theirs = (
        one(input_ids=tokens.to(one.device)).logits.double().cpu().log_softmax(-1)
        for one in (model.eval(), other.eval())
    )
    return float((ours.exp() * (ours - theirs)).sum(-1).mean())
