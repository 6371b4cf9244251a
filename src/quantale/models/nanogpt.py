"""nanoGPT as a transformers model: pre-norm blocks, learned positions, a head tied to the input.

The architecture is Karpathy's nanoGPT: GPT-2 without biases, with the exact GELU, one dropout rate
and `nn.Linear` in place of `Conv1D`. Positions are absolute, so nothing is read past `n_positions`:
a forward pass that tries raises `UsageError`. `generate` does what nanoGPT does: it reads the last
`n_positions` tokens anew for each token (slower, since the cached keys sit at other positions).
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import initialization
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import (
    ALL_ATTENTION_FUNCTIONS,
    PreTrainedModel,
    slice_logits_to_keep,
)
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from quantale.core.errors import UsageError
from quantale.models.attention import Dropout, written_out_attention
from quantale.models.nanogpt_config import NanoGPTConfig


class NanoGPTAttention(nn.Module):
    """Causal multi-head self-attention with one fused projection for queries, keys and values."""

    is_causal = True

    def __init__(self, config: NanoGPTConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.n_embd // config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """hidden_states: (batch, tokens, width); returns that shape and, if eager, the weights."""
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (
            part.view(shape).transpose(1, 2)  # (B, H, T, D)
            for part in self.c_attn(hidden_states).split(self.config.n_embd, dim=-1)
        )
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        dropout = self.dropout.p if self.training else 0.0
        attend = self._attention_function(query, dropout)
        output, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=self.head_dim**-0.5,
            **kwargs,
        )
        output = output.reshape(hidden_states.shape)
        return self.dropout(self.c_proj(output)), weights

    def _attention_function(self, query: torch.Tensor, dropout: float) -> Callable[..., Any]:
        """The configured function, or ours where it is faster: see `models/attention.py`."""
        on_cpu = self.training and query.device.type == "cpu"
        if on_cpu and (dropout > 0 or query.dtype is torch.bfloat16):
            return written_out_attention
        return ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, written_out_attention
        )


class NanoGPTMLP(nn.Module):
    """Four times wider inside, exact (erf) GELU."""

    def __init__(self, config: NanoGPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = Dropout(config.dropout)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, width) to the same shape."""
        return self.dropout(self.c_proj(nn.functional.gelu(self.c_fc(hidden_states))))


class NanoGPTBlock(GradientCheckpointingLayer):  # type: ignore[misc]
    """One transformer block; hidden states come first and alone go out."""

    def __init__(self, config: NanoGPTConfig, layer_idx: int) -> None:
        super().__init__()
        self.ln_1 = _layer_norm(config)
        self.attn = NanoGPTAttention(config, layer_idx)
        self.ln_2 = _layer_norm(config)
        self.mlp = NanoGPTMLP(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """hidden_states: (batch, tokens, width); attention_mask: (batch, 1, tokens, keys)."""
        attended, _ = self.attn(self.ln_1(hidden_states), attention_mask, past_key_values, **kwargs)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.ln_2(hidden_states))


class NanoGPTPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """What transformers needs to know to load, place and initialise the models below."""

    config: NanoGPTConfig
    config_class = NanoGPTConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["NanoGPTBlock"]
    _skip_keys_device_placement: ClassVar[list[str]] = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs: ClassVar[dict[str, type[nn.Module]]] = {
        "hidden_states": NanoGPTBlock,
        "attentions": NanoGPTAttention,
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """GPT-2's scheme: N(0, 0.02), and both residual projections over sqrt(2 n_layer).

        transformers hands models from outside its package only modules that hold parameters of
        their own, so the projections are recognised themselves and not through their parents.
        """
        super()._init_weights(module)
        if type(module) is nn.Linear and module in self._residual_projections():
            std = self.config.initializer_range / math.sqrt(2 * self.config.n_layer)
            initialization.normal_(module.weight, mean=0.0, std=std)

    def _residual_projections(self) -> list[nn.Module]:
        kinds = (NanoGPTAttention, NanoGPTMLP)
        return [module.c_proj for module in self.modules() if isinstance(module, kinds)]


class NanoGPTModel(NanoGPTPreTrainedModel):
    """Embeddings, blocks and the last LayerNorm, without the head."""

    def __init__(self, config: NanoGPTConfig) -> None:
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = Dropout(config.dropout)
        self.h = nn.ModuleList(NanoGPTBlock(config, layer) for layer in range(config.n_layer))
        self.ln_f = _layer_norm(config)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.wte

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embedding."""
        self.wte = value

    @merge_with_config_defaults  # type: ignore[untyped-decorator]
    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """input_ids: (batch, tokens); attention_mask: (batch, past + tokens), zero where padded.

        Positions count the tokens that are not padding, so the side of the padding does not matter.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise UsageError("nanogpt wants input_ids or inputs_embeds, and not both")
        if inputs_embeds is None:
            inputs_embeds = self.wte(input_ids)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        position_ids = self._positions(
            inputs_embeds.shape[1], attention_mask, position_ids, past_key_values
        )
        hidden_states = self.drop(inputs_embeds + self.wpe(position_ids))
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        for block in self.h:
            hidden_states = block(
                hidden_states, attention_mask=mask, past_key_values=past_key_values, **kwargs
            )
        return BaseModelOutputWithPast(
            last_hidden_state=self.ln_f(hidden_states),
            past_key_values=past_key_values if use_cache else None,
        )

    def _positions(
        self,
        tokens: int,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        past_key_values: Cache | None,
    ) -> torch.Tensor:
        """Positions of the new tokens, (1 or batch, tokens); raises UsageError past the context."""
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is None and attention_mask is not None and attention_mask.ndim == 2:
            position_ids = positions_of(attention_mask)[:, -tokens:]
        if position_ids is None:
            device = self.wpe.weight.device
            position_ids = (torch.arange(tokens, device=device) + past).unsqueeze(0)
        limit = self.config.n_positions
        if past + tokens > limit and int(position_ids.max()) >= limit:
            raise UsageError(
                f"nanogpt reads at most {limit} tokens at once, but {past + tokens} came; "
                "cut the text, or use generate(), which reads the last ones"
            )
        return position_ids


class NanoGPTForCausalLM(NanoGPTPreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """nanoGPT with its language-modelling head."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "transformer.wte.weight"}

    def __init__(self, config: NanoGPTConfig) -> None:
        super().__init__(config)
        self.transformer = NanoGPTModel(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (batch, tokens, vocabulary) and, given labels, the mean loss in nats a token.

        labels: (batch, tokens), not shifted; -100 is not scored. logits_to_keep: see transformers.
        """
        outputs = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Within the context as transformers does; past it, the last n_positions tokens anew."""
        limit = self.config.n_positions
        if input_ids.shape[1] <= limit:
            return super().prepare_inputs_for_generation(
                input_ids,
                next_sequence_length=next_sequence_length,
                past_key_values=past_key_values,
                attention_mask=attention_mask,
                **kwargs,
            )
        recent = None if attention_mask is None else attention_mask[:, -limit:]
        kept = {"logits_to_keep", "return_dict", "output_attentions", "output_hidden_states"}
        return {
            **{key: value for key, value in kwargs.items() if key in kept},
            "input_ids": input_ids[:, -limit:].contiguous(),
            "attention_mask": recent,
            "use_cache": False,
        }


def positions_of(attention_mask: torch.Tensor) -> torch.Tensor:
    """Position of each column among its row's tokens; padding gets 0. (batch, tokens) int64."""
    positions = attention_mask.long().cumsum(-1) - 1
    return positions.masked_fill(attention_mask == 0, 0)


def register() -> None:
    """Let the Auto classes build these models; safe to call twice."""
    # Imported here: loading it is what calls this function (see quantale/hooks.py).
    from transformers.models.auto.modeling_auto import AutoModel, AutoModelForCausalLM

    AutoModel.register(NanoGPTConfig, NanoGPTModel, exist_ok=True)
    AutoModelForCausalLM.register(NanoGPTConfig, NanoGPTForCausalLM, exist_ok=True)


def _layer_norm(config: NanoGPTConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, bias=config.bias)


# transformers' Auto classes are loaded by the imports above, too early for whoever waits for them.
register()
