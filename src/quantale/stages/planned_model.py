"""The model of a recipe before it is there: its configuration, and how to build any part of it."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from quantale.core.recipe import Recipe
from quantale.evaluation.windows import named_context
from quantale.models.load import local_folder
from quantale.stages.train import own_config

_CHARACTERS = 128
"""Vocabulary that is assumed for a character tokenizer, which is not trained here."""


@dataclass(frozen=True)
class PlannedModel:
    """A configuration with the class that its model has."""

    config: Any
    classifies: bool
    parameters: int
    """Tied ones once."""
    length: int
    """Tokens of a training row."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights in the file; what is trained or built anew is in float32."""
        found = getattr(self.config, "dtype", None)
        return found if isinstance(found, torch.dtype) else torch.float32

    @property
    def layers(self) -> int:
        """Transformer blocks."""
        return int(self.config.num_hidden_layers)

    @property
    def block_parameters(self) -> int:
        """Parameters of the model with a single block."""
        with torch.device("meta"):
            return sum(p.numel() for p in self.build(1).parameters())

    def build(self, layers: int | None = None) -> Any:
        """Return a model with random fp32 weights, of all or some blocks; real, fake or meta."""
        return _build(self.config, self.classifies, layers)


def planned_model(recipe: Recipe) -> PlannedModel:
    """Return the model of a recipe; nothing but its configuration is read."""
    config = _config(recipe)
    names = getattr(config, "architectures", None) or [""]
    classifies = recipe.data.learns_classes or str(names[0]).endswith("ForSequenceClassification")
    with torch.device("meta"):
        model = _build(config, classifies, None)
    length = recipe.data.length or named_context(config)
    return PlannedModel(config, classifies, sum(p.numel() for p in model.parameters()), length)


def _build(config: Any, classifies: bool, layers: int | None) -> Any:
    config = deepcopy(config)
    if classifies and config.pad_token_id is None:
        config.pad_token_id = 0  # a training sets one; which it is changes no size
    if layers is not None:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    kind = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    return kind.from_config(config, dtype=torch.float32)


def _config(recipe: Recipe) -> Any:
    shape = recipe.model
    if shape.kind == "pretrained":
        return AutoConfig.from_pretrained(local_folder(str(shape.path)))
    vocabulary = recipe.tokenizer.vocab_size if recipe.tokenizer.kind == "bpe" else _CHARACTERS
    return own_config(shape, vocabulary)
