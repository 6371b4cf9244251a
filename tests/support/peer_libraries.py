"""Run other libraries in the environment that QUANTALE_PEERS names, a Python executable.

They cannot live in this environment: some change versions of what is here, and transformers
imports hqq with warnings as soon as it finds it.
"""

import os
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor


def run_peer(script: str, tensors: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Return what a script writes to its second argument, a safetensors file, from its first.

    Skips the test when there is no such environment.
    """
    python = os.environ.get("QUANTALE_PEERS")
    if not python or not Path(python).is_file():
        pytest.skip("QUANTALE_PEERS names no Python executable of an environment with the peers")
    program, given, made = folder / "peer.py", folder / "given.st", folder / "made.st"
    program.write_text(script, encoding="utf-8")
    save_file(tensors, given)
    command = [python, str(program), str(given), str(made)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(made)
