"""Two processes under torchrun train as one does: the same losses, one result, one log."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("training_rank.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
RECIPE = {
    "name": "two",
    "seed": 1,
    "threads": 1,
    "data": {"source": "storygen", "train_documents": 40, "validation_documents": 4},
    "tokenizer": {"kind": "bpe", "vocab_size": 300},
    "model": {"layers": 1, "heads": 2, "width": 16, "context": 32, "dropout": 0.0},
    "train": {
        "epochs": 0.05,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "warmup": 0.2,
        "precision": "fp32",
        "evaluate_every": 2,
        "evaluate_documents": 4,
        "checkpoint_every": 2,
    },
}


def start(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True, timeout=540
    )


def losses(folder: Path) -> list[tuple[int, str, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["split"], line["loss"]) for line in lines]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    for command in ((sys.executable,), TORCHRUN):
        name = "one" if len(command) == 1 else "two"
        done = start(*command, str(WORKER), str(folder / name))
        assert done.returncode == 0, done.stderr
    return folder


def test_two_processes_have_the_losses_of_one(trained: Path) -> None:
    one, two = losses(trained / "one/plain"), losses(trained / "two/plain")
    assert [loss[:2] for loss in one] == [loss[:2] for loss in two]
    assert [loss[2] for loss in two] == pytest.approx([loss[2] for loss in one], rel=1e-5)
    assert one[-1][2] < 0.9 * one[0][2]


def test_two_processes_resume_to_the_bytes_of_a_whole_run(trained: Path) -> None:
    whole, stopped = trained / "two/whole", trained / "two/stopped"
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes(), name
    checkpoint = stopped / "checkpoints/step-000006/state.json"
    assert json.loads(checkpoint.read_text())["environment"]["processes"] == 2


def test_a_resume_with_another_number_of_processes_is_refused(trained: Path) -> None:
    done = start(sys.executable, str(WORKER), str(trained / "two"))
    assert "began with processes=2 and would go on with 1" in done.stderr


def test_quantale_train_runs_under_torchrun(tmp_path: Path) -> None:
    recipe = tmp_path / "two.yaml"
    recipe.write_text(json.dumps(RECIPE))
    train = ("-m", "quantale.cli", "train", str(recipe), "--out")
    one = start(sys.executable, *train, str(tmp_path / "one"))
    assert one.returncode == 0, one.stderr
    two = start(*TORCHRUN, *train, str(tmp_path / "two"))
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("validation_loss") == 1
    expected = [loss[2] for loss in losses(tmp_path / "one")]
    assert [loss[2] for loss in losses(tmp_path / "two")] == pytest.approx(expected, rel=1e-5)
    again = start(*TORCHRUN, *train, str(tmp_path / "two"))
    assert again.returncode == 0, again.stderr
    refused = start(*TORCHRUN, "-m", "quantale.cli", "run", str(recipe))
    assert "torchrun is for quantale train" in refused.stderr


def test_the_cloud_task_trains_on_machines_that_share_no_folder(tmp_path: Path) -> None:
    script = YAML(typ="safe").load(ROOT / "cloud" / "multi-node.yaml")["run"]
    (tmp_path / "two.yaml").write_text(json.dumps(RECIPE))
    for _ in range(2):  # the second time all is there, on the first machine alone
        nodes = [machine(script, tmp_path, rank) for rank in (0, 1)]
        try:
            said = [node.communicate(timeout=540) for node in nodes]
        finally:
            for node in nodes:
                node.kill()
        assert [node.returncode for node in nodes] == [0, 0], said
        assert [text.count("validation_loss") for text, _ in said] == [1, 0]
    assert (tmp_path / "0/made/model/model.safetensors").is_file()
    assert not (tmp_path / "1/made").exists()


def machine(script: str, folder: Path, rank: int) -> subprocess.Popen[str]:
    """Start what SkyPilot starts on one machine of two, in a folder of its own."""
    home = folder / str(rank)
    home.mkdir(exist_ok=True)
    if not (home / ".venv").exists():
        (home / ".venv").symlink_to(sys.prefix)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "RECIPE": str(folder / "two.yaml"),
        "OUT": "made",
        "PORT": port_of(folder),
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_RANK": str(rank),
        "SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.2",
        "SKYPILOT_NUM_GPUS_PER_NODE": "1",
    }
    command = ["bash", "-c", script]
    return subprocess.Popen(
        command,
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def port_of(folder: Path) -> str:
    """Return a port that was free when it was first asked for."""
    kept = folder / "port"
    if not kept.exists():
        with socket.create_server(("127.0.0.1", 0)) as server:
            kept.write_text(str(server.getsockname()[1]))
    return kept.read_text()
