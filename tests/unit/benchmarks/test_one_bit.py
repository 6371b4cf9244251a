"""The ways to few bits that the benchmark compares: each one can be made, and how it is printed."""

import pytest
from benchmarks.one_bit import WAYS, Way, table

from quantale.core.recipe_variants import VariantSection
from quantale.stages.heal import Budget, taught_section
from quantale.stages.tune import check_tuning


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_every_way_is_a_variant_that_can_be_made(way: Way) -> None:
    section = None
    if way.method is not None:
        section = taught_section(way.method, way.settings or {}, way.rate, Budget(3, 2))
    check_tuning(VariantSection(name=way.name, tune=section, **way.quantized))


def test_names_are_unique() -> None:
    assert len({way.name for way in WAYS}) == len(WAYS)


def test_rows_are_printed_as_shares_of_perplexity() -> None:
    row = {
        "name": "hqq-1",
        "bits_per_weight": 1.5,
        "bytes_on_disk": 1234,
        "rise": 0.031,
        "rise_low": 0.02,
        "rise_high": 0.04,
        "kl": 0.0312,
        "seconds": 61.2,
        "processor_seconds": 30.0,
    }
    last = table([row]).splitlines()[-1]
    assert last == "| hqq-1 | 1.50 | 1,234 | +3.1% | +2.0% to +4.0% | 0.031 | 61 | 30 |"
