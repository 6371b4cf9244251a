"""Fresh processes without the wait: ask a server that imported torch once and forks a child a job.

Importing torch and transformers takes seconds, measuring a small model does not. See `forking`
for the other end. This end needs no torch; it samples the child's memory while it waits.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import IO, Any

from quantale.core import errors
from quantale.core.errors import EnvironmentLackingError, QuantaleError
from quantale.evaluation.memory import Sample, Sampler

_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Job:
    """One measurement of one model in one process; plain values, sent as JSON."""

    path: str
    """Handed to the loader."""
    loader: str
    """"package.module:function", path to model."""
    describe: str | None
    """"package.module:function", model to {site: kernel name}."""
    prompt_tokens: int
    new_tokens: int
    batch: int
    runs: int
    threads: int
    seed: int
    fast: bool
    """Whether kernels may run that are not exact."""
    device: str = "cpu"
    """Where the model goes, as torch names it."""


@dataclass(frozen=True)
class Answer:
    """What a child reported, and what its resident size was meanwhile."""

    pid: int
    result: Mapping[str, Any]
    samples: Sequence[Sample]


class Server:
    """The parent's end of a running server."""

    def __init__(self, process: "subprocess.Popen[str]", log: IO[str], timeout: float) -> None:
        self._process = process
        self._log = log
        self._timeout = timeout

    def rehearse(self, job: Job) -> list[str]:
        """Load the model once; the server then imports the modules that took, returned here."""
        modules: list[str] = self._ask({"rehearse": True, "job": asdict(job)}).result["modules"]
        self._send({"modules": modules})
        return modules

    def measure(self, job: Job) -> Answer:
        """Measure in a fresh process; raises what the child raised, when it is an error of ours."""
        return self._ask({"rehearse": False, "job": asdict(job)})

    def _send(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._failure("the measuring server", self._process.wait()) from error

    def _ask(self, request: Mapping[str, Any]) -> Answer:
        self._send(request)
        watchdog = threading.Timer(self._timeout, _kill, [self._process])
        watchdog.start()
        try:
            return self._answer(request["job"]["path"])
        finally:
            watchdog.cancel()

    def _answer(self, path: str) -> Answer:
        lines: dict[str, Any] = {}
        with ExitStack() as stack:
            sampler = None
            while "exit" not in lines:
                lines |= self._line(path)
                if sampler is None and "pid" in lines:
                    sampler = stack.enter_context(Sampler(lines["pid"]))
        if "error" in lines:
            kind = getattr(errors, lines["error"], QuantaleError)
            raise kind(lines["message"])
        if lines["exit"] != 0 or "result" not in lines or sampler is None:
            raise self._failure(path, lines["exit"])
        return Answer(lines["pid"], lines["result"], sampler.samples)

    def _line(self, path: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure(path, self._process.wait())
        content: dict[str, Any] = json.loads(line)
        return content

    def _failure(self, path: str, status: int) -> QuantaleError:
        if status < 0:
            return EnvironmentLackingError(
                f"{path}: its process was killed by signal {-status}; too little memory, or it "
                f"took longer than {self._timeout:.0f} s"
            )
        self._log.seek(0)
        last = self._log.read().strip().rpartition("\n")[2]
        return QuantaleError(f"{path}: its process failed: {last or f'exit status {status}'}")


@contextmanager
def server(threads: int, *, timeout: float = 600.0) -> Iterator[Server]:
    """Start a server; it and its children end with the block. timeout: seconds a job."""
    environment = {
        **os.environ,
        **_WAITING,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-P", "-m", "quantale.evaluation.forking"]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        )
        with process:
            try:
                yield Server(process, log, timeout)
            finally:
                _kill(process)


def _kill(process: "subprocess.Popen[str]") -> None:
    """End a server and its children, which share its process group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
