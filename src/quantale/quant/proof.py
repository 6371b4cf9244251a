"""The proof that a saved model is the one that was made: equal logits, bit for bit.

What is compared is the sha256 of the float32 logits on fixed random tokens.
"""

import hashlib

import torch
from torch import Tensor
from transformers import PreTrainedModel

_BATCH, _LENGTH = 2, 32


def proof_tokens(model: PreTrainedModel) -> Tensor:
    """Return the tokens of the proof, (n, length).

    A classifier without a padding token takes one row at a time only, so it gets the first row.
    """
    generator = torch.Generator().manual_seed(0)
    config = model.config.get_text_config()
    length = min(_LENGTH, getattr(config, "max_position_embeddings", _LENGTH))
    tokens = torch.randint(config.vocab_size, (_BATCH, length), generator=generator)
    if model.get_output_embeddings() is None and config.pad_token_id is None:
        return tokens[:1]
    return tokens


def logits_digest(model: PreTrainedModel) -> str:
    """Return the digest of the logits of a model that is in memory."""
    tokens = proof_tokens(model)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=tokens.to(model.device)).logits
    model.train(was_training)
    return digest_of_logits(logits)


def digest_of_logits(logits: Tensor) -> str:
    """Return the sha256 of logits as float32."""
    return hashlib.sha256(logits.to(torch.float32).cpu().numpy().tobytes()).hexdigest()
