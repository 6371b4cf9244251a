"""Every variant has a name of its own, and ours name settings that our methods have."""

import math

import numpy as np
import pytest
import torch
from benchmarks.peers.gptqmodel import unpack
from benchmarks.ranking import Row, answer, markdown
from benchmarks.variants import OURS, PEERS, Variant

from quantale.core.recipe_file import parse_assignment
from quantale.core.records import Measurement
from quantale.stages.variants import make_method


def row(name: str, maker: str, nbytes: int, kl: list[float]) -> Row:
    """Return a variant that scored these KL sums on documents of ten tokens."""
    result = {"peer": maker, "file_bytes": nbytes, "bits_per_weight": 4.0, "seconds": 1.0}
    tokens = np.full(len(kl), 10.0)
    found = [
        Measurement(name, "language", "", metric, value, "", len(kl), 0.0)
        for metric, value in (("kl_mean", sum(kl) / tokens.sum()), ("perplexity", 3), ("top1", 1))
    ]
    result |= {"peak_rss_bytes": 1, "note": ""}
    return Row(name, result, found[0], found[1], found[2], np.array(kl), tokens)


def test_names_are_unique_because_they_are_folders() -> None:
    names = [one.name for one in (*OURS, *PEERS)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("variant", OURS, ids=lambda one: one.name)
def test_our_variants_can_be_built(variant: Variant) -> None:
    words = variant.words
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    method = make_method(words[1], dict(map(parse_assignment, settings)))
    for key, value in map(parse_assignment, settings):
        assert getattr(method, key) == value


def test_a_peer_is_answered_by_our_smallest_divergence_that_is_no_larger() -> None:
    theirs = [2.0, 2.1, 1.9, 2.0, 2.2, 1.8] * 4
    peer = row("theirs", "hqq", 100, theirs)
    ours = [
        row("too large", "quantale", 101, [0.0] * 24),
        row("best", "quantale", 100, [value - 1 for value in theirs]),
        row("small", "quantale", 50, [value + 1 for value in theirs]),
    ]
    found = answer(peer, ours)
    assert found is not None
    assert found.row.name == "best"
    assert math.isclose(found.difference.value, -0.1)
    assert found.verdict == "yes"


def test_a_peer_that_is_smaller_than_all_of_ours_counts_against_us() -> None:
    peer = row("theirs", "hqq", 10, [1.0, 2.0])
    ours = row("ours", "quantale", 100, [0.0, 0.0])
    assert answer(peer, [ours]) is None
    table = markdown([peer, ours], {}, "Head.")
    assert "At or below 0 of 1 peers' variants" in table
    assert "none is that small" in table


def test_a_difference_whose_interval_holds_zero_is_called_noise() -> None:
    peer = row("theirs", "hqq", 10, [1.0, 2.0, 3.0, 4.0])
    found = answer(peer, [row("ours", "quantale", 10, [2.0, 1.0, 4.0, 3.1])])
    assert found is not None
    assert found.verdict == "no, within noise"


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_streams_of_codes_in_words_unpack_to_what_was_packed(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(1 << bits, (3, 64), generator=generator)
    whole = [sum(int(code) << (bits * i) for i, code in enumerate(row)) for row in codes]
    mask = (1 << 32) - 1
    words = [[(one >> (32 * i)) & mask for i in range(2 * bits)] for one in whole]
    signed = torch.tensor(words).to(torch.int32)
    assert torch.equal(unpack(signed, bits), codes)
