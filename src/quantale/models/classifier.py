"""A classifier made of a language model: its blocks, and a new head on the last token.

transformers' classification classes read the class off the last token that is no padding, so the
configuration must name the padding token; GPT-2 has none of its own and gets its end token.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from quantale.core.errors import ModelFileError, UsageError
from quantale.models.load import LOADING_ERRORS, first_line


def is_classifier(model: Any) -> bool:
    """Say whether a model has a head for classes."""
    return type(model).__name__.endswith("ForSequenceClassification")


def as_classifier(model: Any, classes: Sequence[str], tokenizer: Any, *, seed: int) -> Any:
    """Return a classifier of these classes: the model itself if it is one, or one on its blocks.

    The blocks are the model's own and not copied; the head is new, a function of the seed. The
    tokenizer gets the padding token that the model reads. Raises UsageError for a classifier of
    another number of classes and for a model family without a head for classes.
    """
    padding = _padding(tokenizer)
    if is_classifier(model):
        _check_classes(model.config, classes)
        made = model
    else:
        made = _new_head(model, classes, seed)
    made.config.pad_token_id = padding
    made.config.id2label = dict(enumerate(classes))
    made.config.label2id = {name: number for number, name in enumerate(classes)}
    return made


def _new_head(model: Any, classes: Sequence[str], seed: int) -> Any:
    known = {k: v for k, v in model.config.to_dict().items() if k not in ("id2label", "label2id")}
    config = type(model.config).from_dict(known | {"num_labels": len(classes)})
    config.architectures = None
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    except LOADING_ERRORS as error:
        name = type(model).__name__
        raise UsageError(
            f"no classifier can be made of a {name} ({first_line(error)}); take gpt2 or another "
            "family of transformers with a ForSequenceClassification class"
        ) from error
    prefix = made.base_model_prefix
    if prefix != model.base_model_prefix or not hasattr(model, prefix):
        raise UsageError(
            f"{type(made).__name__} does not hold the blocks of {type(model).__name__}"
        )
    setattr(made, prefix, getattr(model, prefix))
    made.config.architectures = [type(made).__name__]
    return made.to(next(model.parameters()).device)


def _check_classes(config: Any, classes: Sequence[str]) -> None:
    known = [str(config.id2label[number]) for number in sorted(config.id2label)]
    if len(known) != len(classes):
        raise UsageError(
            f"the classifier knows {len(known)} classes ({', '.join(known[:8])}), the data "
            f"{len(classes)} ({', '.join(classes[:8])}); name them in data.classes"
        )
    is_named = any(name != f"LABEL_{number}" for number, name in enumerate(known))
    if is_named and known != list(classes):
        raise UsageError(
            f"the classifier's classes are {', '.join(known)} and the data's "
            f"{', '.join(classes)}; name them in the classifier's order in data.classes"
        )


def _padding(tokenizer: Any) -> int:
    if tokenizer is None:
        raise ModelFileError("the model has no tokenizer; save one beside it")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UsageError("the tokenizer has neither a padding nor an end token; set pad_token")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return int(tokenizer.pad_token_id)
