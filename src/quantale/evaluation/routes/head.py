"""The logits of a classification head, as the model was trained to give them.

The text is encoded as the tokenizer does by itself, special tokens included, and cut at its end.
Documents of one length share a batch and nothing is padded: the head reads the last token that is
not padding, so a batch of unequal lengths would depend on the padding token. A model without one
takes one document at a time.
"""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import DataError, UsageError
from quantale.evaluation.classification import Job, Progress, equal_lengths


@final
class Head:
    """The `head` route."""

    def fingerprint(self, job: Job) -> str:
        """Return what a number needs to carry, such as `head(classes=4,length=256)`."""
        return f"head(classes={len(job.classes)},length={job.length})"

    def check(self, name: str, model: PreTrainedModel, job: Job) -> None:
        """Raise UsageError for a language model and for a head of another number of classes."""
        if not type(model).__name__.endswith("ForSequenceClassification"):
            raise UsageError(
                f"model {name!r} has no classification head; use the route 'likelihood'"
            )
        if int(model.config.num_labels) != len(job.classes):
            raise UsageError(
                f"the head of model {name!r} knows {model.config.num_labels} classes, the data "
                f"{len(job.classes)} ({', '.join(job.classes[:8])}); name them in their order"
            )

    def scores(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        texts: Sequence[str],
        job: Job,
        progress: Progress,
    ) -> Tensor:
        """Return (documents, classes) logits in float32."""
        rows = tokenizer(list(texts), truncation=True, max_length=job.length, padding=False)
        rows = rows["input_ids"]
        empty = next((i for i, row in enumerate(rows) if not row), None)
        if empty is not None:
            raise DataError(f"document {empty} has no token to classify")
        scores = torch.empty(len(rows), len(job.classes))
        padding = model.config.get_text_config().pad_token_id
        done = 0
        for batch in equal_lengths(rows, 1 if padding is None else job.settings.batch_size):
            ids = torch.tensor([rows[i] for i in batch], device=model.device)
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            scores[batch] = logits.float().cpu()
            done += len(batch)
            progress(done, len(rows))
        return scores
