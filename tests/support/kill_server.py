"""A server that does each order in a forked child and kills it with SIGKILL when told to.

The server has paid for the imports, so the work starts at once. It is the child's parent, so
that it can never kill a process that has already ended. Orders and answers are lines of JSON.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn


class KillServer:
    """The test's side: a script that calls `serve`, running as a process of its own."""

    def __init__(self, script: Path, log: Path) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )

    def order(
        self, *, kill_after: float = 600.0, once: Path | None = None, **order: Any
    ) -> dict[str, Any]:
        """Have an order done until its end or its kill: {"killed", "code", "seconds"}.

        kill_after: seconds from the start, or from when the path `once` is there.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order |= {"kill_after": kill_after, "once": None if once is None else str(once)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def stop(self) -> None:
        """End the server."""
        self._process.communicate()
        self._log.close()


def serve(work: Callable[[dict[str, Any]], None]) -> None:
    """The script's side: answer every order on stdin with {"killed", "code", "seconds"}."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for line in sys.stdin:
        order = json.loads(line)
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            _work(work, order)
        if _outlives(order["once"], order["kill_after"]):
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        signal.sigtimedwait({signal.SIGCHLD}, 0)
        seconds = time.monotonic() - start
        answer = {"killed": code == -signal.SIGKILL, "code": code, "seconds": seconds}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _outlives(once: str | None, seconds: float) -> bool:
    """Wait for the path, then for the seconds; False as soon as the child ends before."""
    while once is not None and not Path(once).exists():
        if signal.sigtimedwait({signal.SIGCHLD}, 0.001) is not None:
            return False
    return signal.sigtimedwait({signal.SIGCHLD}, seconds) is None


def _work(work: Callable[[dict[str, Any]], None], order: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        work(order)
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        os._exit(code)
