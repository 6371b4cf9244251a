"""What quantizing takes in memory: one block, however many there are; 1B under 2 GiB."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.scale import GEOMETRIES, Geometry, make_model, make_text, quantizing, run_under

WIDTH, MLP = 512, 2048
BLOCK_BYTES = 4 * (4 * WIDTH * WIDTH + 3 * WIDTH * MLP)
"""Of one block in float32."""
FEW, MANY = 2, 12
SCRIPT = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from quantale.core.progress import Silent
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import Methods
from quantale.stages.quantized import Job, make_model

def peak(source):
    folder = Path(source + "-out")
    folder.mkdir()
    Path("/proc/self/clear_refs").write_text("5")  # begins a new peak
    make_model(Path(source), Job(Methods(Rtn(4, 64))), folder, Silent())
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

print(json.dumps([peak(source) for source in sys.argv[1:]]))
"""


def test_ten_more_blocks_need_no_more_memory(tmp_path: Path) -> None:
    folders = {"first": FEW, "few": FEW, "many": MANY}  # the first one loads libraries
    for name, blocks in folders.items():
        make_model(Geometry(WIDTH, MLP, blocks, 8, 8, 4096, tied=True), tmp_path / name)
    command = [sys.executable, "-c", SCRIPT, *(str(tmp_path / name) for name in folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, few, many = json.loads(done.stdout.splitlines()[-1])
    assert many - few < 2 * BLOCK_BYTES < 10 * BLOCK_BYTES / 4


@pytest.mark.slow
@pytest.mark.parametrize("method", ["hqq", "gptq"])
def test_a_billion_weights_are_quantized_in_two_gibibytes(method: str, tmp_path: Path) -> None:
    limit = 2 * 2**30
    make_model(GEOMETRIES["1b"], tmp_path / "model")
    make_text(tmp_path / "text.txt")
    found = run_under(limit, quantizing(tmp_path, method, samples=8, length=128))
    assert found.code == 0
    assert not found.killed
    assert found.rss_bytes < limit < sum(p.stat().st_size for p in (tmp_path / "model").iterdir())
