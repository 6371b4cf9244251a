"""Tokens drawn are those of a sampler written out in plain Python, and have its distribution."""

import math
import random
from collections import Counter

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from quantale.inference.sampling import Dice, Sampling, choose, warped

SAMPLINGS = [
    Sampling(1.0),
    Sampling(0.7, top_k=5),
    Sampling(1.3, top_p=0.6),
    Sampling(0.9, top_k=12, top_p=0.8),
    Sampling(2.0, top_k=1),
    Sampling(1.0, top_p=1e-6),
    Sampling(1.0, top_k=1000, top_p=1.0),
]


def logits_of(seed: int, size: int = 40) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 3


def shares(logits: list[float], sampling: Sampling) -> list[float]:
    """The probabilities, by sorting and adding."""
    scaled = [value / sampling.temperature for value in logits]
    order = sorted(range(len(scaled)), key=lambda i: -scaled[i])
    kept = order[: sampling.top_k] if sampling.top_k is not None else order
    largest = max(scaled)
    weights = {i: math.exp(scaled[i] - largest) for i in kept}
    total, seen = sum(weights.values()), 0.0
    final = {}
    for i in kept:
        if sampling.top_p is not None and final and seen >= sampling.top_p:
            break
        final[i] = weights[i] / total
        seen += final[i]
    whole = sum(final.values())
    return [final.get(i, 0.0) / whole for i in range(len(logits))]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=repr)
def test_each_draw_is_that_of_a_brute_force_sampler(sampling: Sampling) -> None:
    dice, again = Dice(sampling), Dice(sampling)
    for step in range(200):
        logits = logits_of(step)
        token = choose(logits, sampling, dice.throw(len(logits)))
        noise = again.throw(len(logits))
        assert noise is not None
        probabilities = shares(logits.tolist(), sampling)
        scores = [
            math.log(p) + float(noise[i]) if p > 0 else -math.inf
            for i, p in enumerate(probabilities)
        ]
        assert token == max(range(len(scores)), key=scores.__getitem__)


@pytest.mark.parametrize("sampling", SAMPLINGS[:4], ids=repr)
def test_draws_have_the_distribution(sampling: Sampling) -> None:
    logits, dice, count = logits_of(3, 12), Dice(sampling), 5_000
    found = Counter(choose(logits, sampling, dice.throw(12)) for _ in range(count))
    expected = shares(logits.tolist(), sampling)
    assert all(expected[token] > 0 for token in found)
    chi = sum((found[i] - count * p) ** 2 / (count * p) for i, p in enumerate(expected) if p > 0)
    assert chi < 45  # 11 degrees of freedom at most: p below 1e-5


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=repr)
def test_the_tokens_left_are_those_of_transformers(sampling: Sampling) -> None:
    for seed in range(50):
        logits = logits_of(seed)
        theirs = TemperatureLogitsWarper(sampling.temperature)(None, logits[None])
        if sampling.top_k is not None:
            theirs = TopKLogitsWarper(sampling.top_k)(None, theirs)
        if sampling.top_p is not None and sampling.top_p < 1:
            theirs = TopPLogitsWarper(sampling.top_p)(None, theirs)
        assert torch.equal(warped(logits, sampling).isfinite(), theirs[0].isfinite())


def test_a_temperature_of_nothing_is_greedy_and_the_first_of_equals_wins() -> None:
    sampling = Sampling(0.0, top_k=3, seed=1)
    assert Dice(sampling).throw(4) is None
    assert choose(torch.tensor([1.0, 5.0, 5.0, 0.0]), sampling, None) == 1


def test_noise_hangs_on_the_seed_alone() -> None:
    first, second, other = (Dice(Sampling(1.0, seed=seed)) for seed in (-3, -3, 4))
    torch.manual_seed(random.randrange(2**30))
    noise = first.throw(9)
    assert noise is not None
    assert torch.equal(noise, second.throw(9))  # type: ignore[arg-type]
    assert not torch.equal(noise, other.throw(9))  # type: ignore[arg-type]
