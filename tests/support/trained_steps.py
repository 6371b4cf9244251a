"""Tokens, logits and a step, for tests of trainings that change every parameter."""

import torch
from tiny_models import VOCABULARY
from torch import Tensor
from transformers import PreTrainedModel


def tokens(rows: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, VOCABULARY, (rows, 20), generator=generator)


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(input_ids=tokens()).logits
    return found


def one_step(model: PreTrainedModel) -> None:
    """Move every parameter, so that nothing stands where it began."""
    model.train()
    model(input_ids=tokens()).logits.square().mean().backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
