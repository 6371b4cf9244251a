"""Run other libraries in an environment of their own: that of `make peers`, the folder that PEERS
names, or the Python executable that QUANTALE_PEERS names.

They cannot live in this environment: some change versions of what is here, and transformers
imports hqq with warnings as soon as it finds it.
"""

import os
import subprocess
from pathlib import Path

import pytest
from repository import ROOT
from safetensors.torch import load_file, save_file
from torch import Tensor


def run_peer(script: str, tensors: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Return what a script writes to its second argument, a safetensors file, from its first.

    Skips the test when there is no such environment.
    """
    folder_of_peers = Path(os.environ.get("PEERS", ROOT / ".venv-peers"))
    python = Path(os.environ.get("QUANTALE_PEERS", folder_of_peers / "bin" / "python"))
    if not python.is_file():
        pytest.skip(f"there is no {python}: make peers, or name one with QUANTALE_PEERS")
    program, given, made = folder / "peer.py", folder / "given.st", folder / "made.st"
    program.write_text(script, encoding="utf-8")
    save_file(tensors, given)
    command = [str(python), str(program), str(given), str(made)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(made)
