"""How likely a language model finds the word for each class after a template.

The prompt is the template with the document in place of `{text}`; what comes before and behind the
text, the text itself and every word are encoded apart, without special tokens, and joined behind
the tokenizer's beginning-of-sequence token where it declares one. The end of a text that is too
long is cut, never the template. The score of a class is the log-likelihood of its word: the sum
over its tokens (`sum`), that over the number of its tokens (`token`), or over its UTF-8 bytes
(`byte`); sums favour short words, means favour words whose later tokens are certain. The
probabilities are the softmax of the scores over the classes, not the model's own of the words.
"""

import hashlib
import inspect
import json
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import UsageError, nearest
from quantale.evaluation.classification import Job, Progress, equal_lengths

_PLACE = "{text}"
_NORMALISATIONS = ("sum", "token", "byte")


@final
class Likelihood:
    """The `likelihood` route."""

    def fingerprint(self, job: Job) -> str:
        """Return what a number needs to carry; template and words come as a digest."""
        asked = json.dumps([job.settings.template, job.words])
        digest = hashlib.sha256(asked.encode()).hexdigest()[:12]
        return (
            f"likelihood(classes={len(job.classes)},length={job.length},"
            f"normalise={job.settings.normalise},template={digest})"
        )

    def check(self, name: str, model: PreTrainedModel, job: Job) -> None:
        """Raise UsageError for a classifier and for settings that mean nothing."""
        if type(model).__name__.endswith("ForSequenceClassification"):
            raise UsageError(f"model {name!r} is a classifier; use the route 'head'")
        settings = job.settings
        if settings.normalise not in _NORMALISATIONS:
            hint = nearest(settings.normalise, _NORMALISATIONS)
            raise UsageError(
                f"normalise {settings.normalise!r} is none of {', '.join(_NORMALISATIONS)}{hint}"
            )
        if settings.template.count(_PLACE) != 1:
            raise UsageError(f"a template holds {_PLACE} once; {settings.template!r} came")
        if len(job.words) != len(job.classes) or len({"", *job.words}) <= len(job.words):
            raise UsageError(
                f"{len(job.classes)} classes need as many different words; {job.words} came"
            )

    def scores(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        texts: Sequence[str],
        job: Job,
        progress: Progress,
    ) -> Tensor:
        """Return (documents, classes) normalised log-likelihoods in float64."""
        answers = [_encoded(tokenizer, [word])[0] for word in job.words]
        prompts = _prompts(tokenizer, texts, job, max(map(len, answers)))
        starts = list(dict.fromkeys(tuple(answer[:-1]) for answer in answers))
        found = torch.empty(len(texts), len(answers), dtype=torch.float64)
        done = 0
        for batch in equal_lengths(prompts, job.settings.batch_size):
            rows = torch.tensor([prompts[i] for i in batch], device=model.device)
            for start in starts:
                after = _log_probabilities(model, rows, start)
                for number, answer in enumerate(answers):
                    if tuple(answer[:-1]) == start:
                        place = torch.arange(len(answer)), torch.tensor(answer)
                        found[batch, number] = after[:, place[0], place[1]].sum(dim=1)
            done += len(batch)
            progress(done, len(texts))
        return found / torch.tensor(_divisors(job, answers), dtype=torch.float64)


def _log_probabilities(model: PreTrainedModel, prompts: Tensor, start: tuple[int, ...]) -> Tensor:
    """Return (prompts, len(start) + 1, vocabulary): of what follows the prompt and start."""
    own = torch.tensor([start], dtype=prompts.dtype, device=prompts.device)
    ids = torch.cat([prompts, own.expand(len(prompts), -1)], dim=1)
    wanted = len(start) + 1
    kept = {"logits_to_keep": wanted} if _keeps(model) else {}
    mask = torch.ones_like(ids)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **kept).logits
    last = logits[:, -wanted:].float()
    return torch.log_softmax(last, dim=-1).double().cpu()


def _keeps(model: PreTrainedModel) -> bool:
    """Say whether the model can leave out the logits of the prompt, the larger part of memory."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def _prompts(tokenizer: Any, texts: Sequence[str], job: Job, answer: int) -> list[list[int]]:
    """Return the tokens of every prompt, with room for the longest answer."""
    before, _, behind = job.settings.template.partition(_PLACE)
    head, tail = _encoded(tokenizer, [before, behind])
    bos = tokenizer.bos_token_id
    head = head if bos is None else [bos, *head]
    room = job.length - len(head) - len(tail) - answer
    if room < 1:
        raise UsageError(
            f"a length of {job.length} tokens has no room for a text: the template takes "
            f"{len(head) + len(tail)} and a word {answer}"
        )
    prompts = [[*head, *text[:room], *tail] for text in _encoded(tokenizer, texts)]
    if any(not prompt for prompt in prompts):
        raise UsageError("an empty prompt: the template needs words, or the tokenizer a BOS token")
    return prompts


def _encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    found = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [list(row) for row in found]


def _divisors(job: Job, answers: Sequence[Sequence[int]]) -> list[int]:
    sizes = {
        "sum": [1] * len(answers),
        "token": [len(answer) for answer in answers],
        "byte": [len(word.encode()) for word in job.words],
    }
    return sizes[job.settings.normalise]
