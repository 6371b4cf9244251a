"""Energy counters that wrap, and costs that add up over processes."""

from pathlib import Path

import pytest

from quantale.tuning.cost import CostMeter, EnergyMeter, TrainCost


def counter(root: Path, name: str, value: int) -> None:
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "energy_uj").write_text(f"{value}\n")
    (folder / "max_energy_range_uj").write_text("1000000000\n")


def test_packages_add_up_and_their_parts_do_not_count_twice(tmp_path: Path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        counter(tmp_path, name, 5_000_000)
    meter = EnergyMeter(tmp_path)
    counter(tmp_path, "intel-rapl:0", 8_000_000)
    counter(tmp_path, "intel-rapl:1", 5_500_000)
    counter(tmp_path, "intel-rapl:0:0", 7_000_000)
    assert meter.read() == pytest.approx(3.5)


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    counter(tmp_path, "intel-rapl:0", 999_000_000)
    meter = EnergyMeter(tmp_path)
    counter(tmp_path, "intel-rapl:0", 2_000_000)
    assert meter.read() == pytest.approx(3.0)
    counter(tmp_path, "intel-rapl:0", 4_000_000)
    assert meter.read() == pytest.approx(5.0)


@pytest.mark.parametrize("value", [None, "not permitted"])
def test_a_machine_that_does_not_tell_gives_no_number(tmp_path: Path, value: str | None) -> None:
    if value is not None:
        (tmp_path / "intel-rapl:0").mkdir()
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text(value)
    meter = EnergyMeter(tmp_path)
    assert meter.read() is None
    assert CostMeter(TrainCost(), meter).cost().joules is None


def test_a_resumed_training_adds_to_what_was_spent(tmp_path: Path) -> None:
    counter(tmp_path, "amd-rapl:0", 0)
    before = TrainCost(100.0, 2000, 1 << 50, None, 7.0)
    meter = CostMeter(before, EnergyMeter(tmp_path))
    meter.count(500)
    meter.count(500)
    counter(tmp_path, "amd-rapl:0", 2_000_000)
    cost = meter.cost()
    assert cost.tokens == 3000
    assert cost.seconds >= 100.0
    assert cost.peak_rss_bytes == 1 << 50
    assert cost.joules == pytest.approx(9.0)
    assert cost.tokens_per_second == pytest.approx(3000 / cost.seconds)


def test_energy_that_one_process_could_not_read_is_unknown_for_all(tmp_path: Path) -> None:
    counter(tmp_path, "intel-rapl:0", 0)
    meter = CostMeter(TrainCost(joules=None), EnergyMeter(tmp_path))
    assert meter.cost().joules is None
    assert meter.cost().peak_rss_bytes > 1 << 20
