"""The peak memory of a quantization does not grow with the calibration set."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, sys, tempfile
from pathlib import Path
import torch
torch.set_num_threads(1)
from quantale.models.build import build_model
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.quant.methods.gptq import Gptq
from quantale.quant.whole import Methods, quantize_model
samples = int(sys.argv[1])
shape = {"n_layer": 1, "n_head": 2, "n_embd": 256, "n_positions": 256, "vocab_size": 64}
model = build_model(NanoGPTConfig(**shape, dropout=0.0), seed=0)
windows = torch.randint(64, (samples, 256))
with tempfile.TemporaryDirectory() as folder:
    quantize_model(model, Methods(Gptq(4, 32)), windows, scratch=Path(folder), batch_size=8)
    size = sum(path.stat().st_size for path in Path(folder).glob("states-*"))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "states": size}))
"""


def measured(samples: int) -> dict[str, int]:
    command = [sys.executable, "-c", SCRIPT, str(samples)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_sixteen_times_the_calibration_set_needs_no_more_memory() -> None:
    small, large = measured(16), measured(256)
    assert large["states"] - small["states"] > 100 * 2**20
    assert large["peak"] - small["peak"] < 20 * 2**20
