"""Resident memory of this process and of others."""

import subprocess
import sys

import numpy as np
import pytest

from quantale.evaluation.memory import (
    Phase,
    Sample,
    Sampler,
    kernel_peak,
    measured_phase,
    phase_peak,
    reset_peak,
    resident,
)

MIB = 1 << 20


def test_the_resident_size_grows_with_what_is_touched() -> None:
    before = resident()
    block = np.ones(64 * MIB, dtype=np.uint8)
    assert resident() - before > 60 * MIB
    assert kernel_peak() >= block.nbytes


def test_a_process_that_ended_has_no_memory() -> None:
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    assert resident(ended.pid) == 0
    assert kernel_peak(ended.pid) == 0


def test_the_kernel_peak_of_a_phase_is_its_own_where_it_may_be_reset() -> None:
    np.ones(64 * MIB, dtype=np.uint8)
    if not reset_peak():
        pytest.skip("this kernel does not permit to reset the peak")
    phases: list[Phase] = []
    with measured_phase("small", phases):
        np.ones(MIB, dtype=np.uint8)
    with measured_phase("large", phases):
        np.ones(96 * MIB, dtype=np.uint8)
    small, large = phases
    assert large.kernel_peak - small.kernel_peak > 80 * MIB
    assert small.end <= large.start


def test_without_a_reset_only_samples_tell_the_peak_of_a_phase() -> None:
    samples = [Sample(1.0, 10), Sample(2.0, 30), Sample(3.0, 20)]
    assert phase_peak(samples, Phase("a", 0.5, 1.5, 99, peak_reset=False)) == 10
    assert phase_peak(samples, Phase("a", 0.5, 1.5, 99, peak_reset=True)) == 99
    assert phase_peak(samples, Phase("b", 1.5, 3.0, 25, peak_reset=True)) == 30
    assert phase_peak(samples, Phase("c", 5.0, 6.0, 40, peak_reset=False)) == 40


def test_a_sampler_sees_a_short_burst_of_another_process() -> None:
    burst = "import time; b = bytearray(96 << 20); time.sleep(.3); del b; time.sleep(.3)"
    with subprocess.Popen([sys.executable, "-S", "-c", burst]) as other:
        with Sampler(other.pid) as sampler:
            other.wait()
        sizes = [one.resident for one in sampler.samples]
        assert max(sizes) > 96 * MIB
        assert sizes[-1] < max(sizes) - 80 * MIB
