"""What is exported: a model as it is here, and the same in full precision for everyone else.

A nanoGPT becomes the GPT-2 that computes the same: biases of zero, and the exact GELU. Its names
are GPT-2's already, so that packed layers are found under the same names.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantale.core.errors import UsageError
from quantale.models.adapter_record import is_adapted
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.quant.ledger import stored_sites
from quantale.quant.merging import merged, unpacked
from quantale.quant.packed import PackedTensor
from quantale.quant.stored import StoredSite

_GPT2_SHAPE: Final = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
_GPT2_SAME: Final = (
    "layer_norm_epsilon",
    "initializer_range",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "tie_word_embeddings",
)


@dataclass(frozen=True)
class Source:
    """A model to export."""

    model: Any
    """In float32, packed layers and adapters included: what an export is held against."""
    tokenizer: Any
    """None where the model has none."""
    dtype: torch.dtype
    """In which the model's own files keep what is not packed."""

    @cached_property
    def plain(self) -> PreTrainedModel:
        """The model in full precision, of a class that transformers itself has."""
        model = self.model
        if is_adapted(model):
            model = merged(model)
        if stored_sites(model):
            model = unpacked(model)
        return as_stock(model)

    @cached_property
    def packed(self) -> Mapping[str, PackedTensor]:
        """Packed weights by the names of their modules; none under an adapter.

        Layers with a low-rank term are not among them: their codes are not the whole weight.
        """
        return {
            name: self.model.get_submodule(name).packed
            for name, site in self.quantized.items()
            if site.rank is None
        }

    @cached_property
    def quantized(self) -> Mapping[str, StoredSite]:
        """All packed sites by name, those with a low-rank term too; none under an adapter."""
        sites = [] if is_adapted(self.model) else stored_sites(self.model)
        return {site.name: site for site in sites}

    @property
    def rounds_inputs(self) -> bool:
        """Whether packed layers here also round their inputs, which no other program does alike."""
        settings = [site.format.settings() for site in self.quantized.values()]
        return any(one.get("activation_bits") or "threshold" in one for one in settings)

    def refuse_norms(self, name: str) -> None:
        """Raise UsageError for norms of inputs, which only this project's layers have."""
        if any(site.norm is not None for site in stored_sites(self.model)):
            raise UsageError(
                f"{name}: the model was trained with a norm in front of each packed layer (SubLN), "
                "which no other program has; only the quantale form computes it"
            )

    def refuse_low_rank(self, name: str) -> None:
        """Raise UsageError for low-rank terms, which packed layers elsewhere do not have."""
        if any(site.rank is not None for site in stored_sites(self.model)):
            raise UsageError(
                f"{name}: packed layers have low-rank terms beside their codes, which it cannot "
                "hold; hf writes the whole weights in full precision"
            )


def as_stock(model: PreTrainedModel) -> PreTrainedModel:
    """Return a nanoGPT as the GPT-2 that computes the same, any other model as it is."""
    if not isinstance(model.config, NanoGPTConfig):
        return model
    ours = model.config
    shared = {key: getattr(ours, key) for key in (*_GPT2_SHAPE, *_GPT2_SAME)}
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), ours.dropout)
    config = GPT2Config(**shared, **rates, activation_function="gelu")
    config.architectures = ["GPT2LMHeadModel"]
    with torch.random.fork_rng(devices=[]):
        stock = GPT2LMHeadModel(config).to(model.dtype)
    state = stock.state_dict()
    for name, tensor in model.state_dict().items():
        owner = stock.get_submodule(name.rpartition(".")[0])
        turned = isinstance(owner, Conv1D) and tensor.dim() == 2
        state[name] = tensor.t() if turned else tensor
    zeros = [name for name in state if name.endswith(".bias") and name not in model.state_dict()]
    state |= {name: torch.zeros_like(state[name]) for name in zeros}
    stock.load_state_dict(state)
    stock.generation_config = copy.deepcopy(model.generation_config)
    return stock.eval()
