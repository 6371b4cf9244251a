"""Fresh processes, interleaving and what is reported of them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_gpt2

from quantale.core.errors import EnvironmentLackingError, ModelFileError, QuantaleError, UsageError
from quantale.core.progress import Silent
from quantale.core.records import to_json_line
from quantale.evaluation import decode
from quantale.evaluation.fresh import Job, Server, server
from quantale.evaluation.latency import Latency, LatencySettings, measure, measurements
from quantale.quant.kernels.aten import Aten
from quantale.stages.bench import bench_models
from quantale.stages.requests import BenchRequest

JOB = Job("1", "latency_models:tiny", None, 4, 6, 1, 2, 1, 0, True)
Timed = tuple[list[Latency], list[tuple[int, int]]]

SETTINGS = LatencySettings(
    prompt_tokens=4,
    new_tokens=8,
    rounds=2,
    runs=2,
    threads=1,
    loader="latency_models:heavy",
    describe="latency_models:kernels",
)


@pytest.fixture(scope="module", autouse=True)
def loaders() -> Iterator[None]:
    """Let this process and its children import the loaders beside this file."""
    folder = str(Path(__file__).parent)
    sys.path.append(folder)
    yield
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def running(loaders: None) -> Iterator[Server]:
    with server(threads=1) as started:
        started.rehearse(JOB)
        yield started


@pytest.fixture(scope="module")
def timed(loaders: None) -> Timed:
    seen: list[tuple[int, int]] = []
    found = measure({"a": "1", "b": "2"}, SETTINGS, lambda *done: seen.append(done))
    return found, seen


def test_each_measurement_is_a_process_of_its_own(running: Server) -> None:
    answers = [running.measure(JOB) for _ in range(2)]
    pids = {answer.pid for answer in answers}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_a_child_reports_phases_in_order_and_a_time_for_each_step(running: Server) -> None:
    result = running.measure(replace(JOB, runs=3)).result
    assert [phase["name"] for phase in result["phases"]] == ["load", "prefill", "decode"]
    assert [len(run) for run in result["decode"]["runs"]] == [6, 6, 6]
    assert [len(run) for run in result["prefill"]["runs"]] == [1, 1, 1]
    assert result["threads"] == 1
    assert 2 <= result["decode"]["warm_up_runs"] <= 5


def test_after_a_rehearsal_loading_imports_nothing(running: Server) -> None:
    assert running.rehearse(JOB) == []


def test_an_error_of_ours_keeps_its_kind_and_message(running: Server) -> None:
    with pytest.raises(ModelFileError, match=r"m\.bin: is no model"):
        running.measure(replace(JOB, path="m.bin", loader="latency_models:refusing"))


def test_a_crash_is_told_with_its_last_line_and_the_server_lives_on(running: Server) -> None:
    with pytest.raises(QuantaleError, match="RuntimeError: cannot make x"):
        running.measure(replace(JOB, path="x", loader="latency_models:broken"))
    assert running.measure(JOB).result["dtype"] == "float32"


def test_a_killed_process_is_told_as_such(running: Server) -> None:
    with pytest.raises(EnvironmentLackingError, match="killed by signal 9"):
        running.measure(replace(JOB, loader="latency_models:killed"))


def test_a_length_past_the_context_is_refused(running: Server) -> None:
    with pytest.raises(UsageError, match="do not fit its context of 32"):
        running.measure(replace(JOB, new_tokens=40))


def test_a_loader_that_is_no_dotted_function_is_refused(running: Server) -> None:
    with pytest.raises(UsageError, match=r"'package\.module:function'"):
        running.measure(replace(JOB, loader="latency_models"))


def test_every_model_is_timed_in_every_round(timed: Timed) -> None:
    found, seen = timed
    assert [one.model for one in found] == ["a", "b"]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for one in found:
        assert [len(runs) for runs in one.decode_ms_per_token.rounds] == [2, 2]
        estimate = one.decode_ms_per_token.median
        assert 0 < estimate.low <= estimate.value <= estimate.high
        assert estimate.n == 4
        assert one.tokens_per_s == pytest.approx(1000 / estimate.value)


def test_the_peak_holds_what_the_model_holds(timed: Timed) -> None:
    found, _ = timed
    for one in found:
        assert list(one.peak_rss) == ["load", "prefill", "decode"]
        assert one.peak_rss["decode"] - one.resident_before > 60 << 20
        assert one.peak_rss_bytes == max(one.peak_rss.values())


@pytest.mark.parametrize(("fast", "kernel"), [(True, "aten"), (False, "reference")])
def test_kernels_that_are_not_exact_are_timed_unless_exact_ones_are_asked_for(
    fast: bool, kernel: str
) -> None:
    if Aten().lacks():
        pytest.skip("; ".join(Aten().lacks()))
    describe = "quantale.quant.ledger:kernel_names"
    job = replace(JOB, loader="packing:gpt2_of_8_bits", describe=describe, fast=fast)
    assert set(decode.measure(job)["kernels"].values()) == {kernel}


def test_other_words_for_kernels_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match="kernels must be fast or exact, 'quick' came"):
        measure({"a": "1"}, replace(SETTINGS, kernels="quick"))


def test_records_carry_protocol_kernel_and_interval(timed: Timed) -> None:
    found, _ = timed
    records = {one.metric: one for one in measurements(found[1])}
    of_decoding = records["decode_ms_per_token"]
    assert of_decoding.protocol == (
        "decode(prompt=4,new=8,batch=1,threads=1,rounds=2,runs=2,kernels=fast,greedy,eos=no)"
    )
    assert of_decoding.kernel == "reference"
    assert float(of_decoding.extra["p90"]) > 0
    assert of_decoding.ci_low is not None
    assert of_decoding.ci_high is not None
    assert of_decoding.ci_low <= of_decoding.value <= of_decoding.ci_high
    assert found[1].kernels == {"h.0": "reference", "h.1": "reference"}
    assert {"prefill_ms", "load_seconds", "peak_rss_bytes", "peak_rss_bytes_load"} <= set(records)
    assert to_json_line(of_decoding)


def test_settings_are_checked_before_a_process_starts() -> None:
    with pytest.raises(UsageError, match="at least one model"):
        measure({})
    with pytest.raises(UsageError, match="runs must be at least 1"):
        measure({"a": "1"}, LatencySettings(runs=0))


def test_a_round_reports_what_a_token_reads_and_how_fast_this_machine_reads(timed: Timed) -> None:
    found, _ = timed
    for one in found:
        assert one.weight_bytes > 64 << 20  # a buffer of the model
        assert one.bandwidth > 1e8
        seconds = one.decode_ms_per_token.median.value / 1000
        assert one.roofline == pytest.approx(one.weight_bytes / one.bandwidth / seconds)
        records = {line.metric: line.value for line in measurements(one)}
        assert records["roofline_fraction"] == one.roofline
        assert records["tokens_per_s"] == one.tokens_per_s
        assert one.device_memory == {}


def test_a_batch_is_decoded_together(running: Server) -> None:
    result = running.measure(replace(JOB, batch=3)).result
    assert [len(run) for run in result["decode"]["runs"]] == [6, 6]


@pytest.mark.gpu
def test_on_a_gpu_events_time_and_the_allocator_reports() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = measure({"a": "1"}, replace(SETTINGS, device="cuda", loader="latency_models:tiny"))[0]
    assert found.device.startswith("cuda")
    assert found.decode_ms_per_token.median.value > 0
    memory = found.device_memory["decode"]
    assert 0 < memory["allocated"] <= memory["reserved"] <= memory["used"]


@pytest.mark.slow
def test_one_model_given_twice_shows_no_difference_while_the_other_core_is_busy(
    tmp_path: Path,
) -> None:
    """At least 17 times of 20."""
    tiny_gpt2().save_pretrained(tmp_path / "model")
    model = str(tmp_path / "model")
    request = BenchRequest((model, model), threads=(1,), new_tokens=16, rounds=6, runs=3)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            paces = [bench_models(request, None, Silent())["timings"][1]["pace"] for _ in range(20)]
        finally:
            busy.kill()
    assert paces.count("no difference") >= 17
