"""The configuration of nanoGPT models; light enough to be registered without loading torch code."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig


@strict
class NanoGPTConfig(PreTrainedConfig):  # type: ignore[misc]
    """Shape of a nanoGPT; the defaults are recipe R1's model without its vocabulary."""

    model_type = "nanogpt"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = 256
    """Rows of the token embedding, which is also the head."""
    n_positions: int = 256
    """Longest sequence in tokens that one forward pass reads."""
    n_embd: int = 192
    """Width of the residual stream; a multiple of n_head."""
    n_layer: int = 6
    """Number of transformer blocks."""
    n_head: int = 6
    """Attention heads of a block."""
    dropout: float | int = 0.1
    """Probability for embeddings, attention weights and both residual branches."""
    bias: bool = False
    """Whether linear layers and LayerNorms have biases."""
    layer_norm_epsilon: float = 1e-5
    """Added to the variance in LayerNorm."""
    initializer_range: float = 0.02
    """Standard deviation of new weights; residual projections get it over sqrt(2 n_layer)."""
    use_cache: bool = True
    """Whether a forward pass returns keys and values for the next token."""
    bos_token_id: int | None = None
    """Token in front of each document."""
    eos_token_id: int | list[int] | None = None
    """Token or tokens that end a generation."""
    pad_token_id: int | None = None
    """Token that fills rows of a batch."""
    tie_word_embeddings: bool = True
    """Whether the head is the token embedding."""

    def validate_heads(self) -> None:
        """Raise ValueError when the width cannot be split into the heads (called by `strict`)."""
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} is not a multiple of n_head={self.n_head}")


def register() -> None:
    """Let `AutoConfig` know the model type; safe to call twice."""
    from transformers.models.auto.configuration_auto import AutoConfig

    AutoConfig.register(NanoGPTConfig.model_type, NanoGPTConfig, exist_ok=True)
