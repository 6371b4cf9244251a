"""The front: brute force, ties, and what holds for any set of points."""

from hypothesis import given
from hypothesis import strategies as st

from quantale.report import pareto
from quantale.report.model import Estimate, ReportData, VariantRow

ONE = Estimate(1.0, 0.9, 1.1, 10)


def experiment(
    points: list[tuple[int, float, float]], ties: tuple[tuple[str, str], ...] | None = None
) -> ReportData:
    base = VariantRow("base", "none", 1000, bits_per_byte=ONE)
    rows = [
        VariantRow(
            f"v{i}", "rtn", size, bits_per_byte=ONE,
            delta_bits_per_byte=Estimate(loss, loss - half, loss + half, 10),
        )
        for i, (size, loss, half) in enumerate(points)
    ]  # fmt: skip
    return ReportData("t", "base", (base, *rows), ties=ties)


def standings(data: ReportData) -> dict[str, pareto.Standing]:
    return pareto.standings(data, pareto.points(data))


def test_a_variant_that_loses_in_both_is_behind() -> None:
    found = standings(experiment([(100, 0.1, 0.01), (200, 0.5, 0.01), (300, 0.02, 0.01)]))
    assert found == {"base": "front", "v0": "front", "v1": "behind", "v2": "front"}


def test_a_loss_inside_the_noise_is_a_tie_not_a_defeat() -> None:
    found = standings(experiment([(100, 0.10, 0.05), (200, 0.12, 0.05)]))
    assert (found["v0"], found["v1"]) == ("front", "tied")


def test_a_paired_test_overrules_overlapping_intervals() -> None:
    assert standings(experiment([(100, 0.10, 0.05), (200, 0.12, 0.05)], ties=()))["v1"] == "behind"


def test_a_variant_larger_than_the_base_and_no_better_is_tied_or_behind() -> None:
    found = standings(experiment([(2000, 0.0001, 0.01), (2000, 0.5, 0.01)]))
    assert (found["v0"], found["v1"]) == ("tied", "behind")


def test_two_equal_points_share_the_front() -> None:
    found = standings(experiment([(100, 0.1, 0.01), (100, 0.1, 0.01)]))
    assert (found["v0"], found["v1"]) == ("front", "front")


def test_a_chain_of_ties_is_drawn_by_its_links() -> None:
    data = experiment([(100, 0.3, 0.1), (200, 0.25, 0.1), (300, 0.2, 0.1)])
    pairs = pareto.tied_neighbours(data, pareto.points(data))
    assert [(a.row.name, b.row.name) for a, b in pairs] == [("v0", "v1"), ("v1", "v2")]


def test_variants_without_a_paired_difference_are_no_points() -> None:
    bare = ReportData("t", "a", (VariantRow("a", "none", 10), VariantRow("b", "rtn", 5)))
    assert pareto.points(bare) == ()


@given(
    st.lists(
        st.tuples(
            st.integers(1, 9),
            st.integers(-5, 50).map(lambda k: k / 10),
            st.sampled_from((0.0, 0.2)),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_the_front_is_what_brute_force_says(drawn: list[tuple[int, float, float]]) -> None:
    data = experiment(drawn)
    found = pareto.points(data)
    standing = pareto.standings(data, found)
    for point in found:
        beaten = any(
            other.size <= point.size
            and other.loss.value <= point.loss.value
            and (other.size < point.size or other.loss.value < point.loss.value)
            for other in found
        )
        assert (standing[point.row.name] == "front") == (not beaten)
    assert "front" in standing.values()
