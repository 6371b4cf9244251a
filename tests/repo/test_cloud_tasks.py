"""The tasks for rented machines have the form that SkyPilot documents, and run what exists."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT
from ruamel.yaml import YAML
from typer.main import get_command

from quantale.cli.app import app
from quantale.core.recipe_file import load_recipe

TASKS = sorted((ROOT / "cloud").glob("*.yaml"))
KEYS = {
    "name": str,
    "workdir": str,
    "num_nodes": int,
    "resources": dict,
    "envs": dict,
    "setup": str,
    "run": str,
}
RESOURCES = {"accelerators": str, "cpus": str, "memory": str, "disk_size": int, "autostop": int}
GIVEN = {"SKYPILOT_NODE_RANK", "SKYPILOT_NODE_IPS", "SKYPILOT_NUM_NODES"} | {
    "SKYPILOT_NUM_GPUS_PER_NODE"
}
"""What SkyPilot puts into the environment of a task."""
PARSE = """
import sys
from pathlib import Path
from sky.skylet.constants import CATALOG_SCHEMA_VERSION
catalogs = Path.home() / ".sky" / "catalogs" / CATALOG_SCHEMA_VERSION / "common"
catalogs.mkdir(parents=True)
(catalogs / "accelerators.csv").write_text("AcceleratorName,Clouds\\nL4,['gcp']\\nT4,['gcp']\\n")
import sky
task = sky.Task.from_yaml(sys.argv[1])
task.validate()
print(task.num_nodes)
"""
"""SkyPilot's parser, with its list of accelerators at hand, which it would fetch."""

every_task = pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def wrong(found: dict[str, Any], known: dict[str, type]) -> list[str]:
    return [key for key, value in found.items() if type(value) is not known.get(key)]


@every_task
def test_its_keys_are_documented_and_of_their_types(path: Path) -> None:
    task = read(path)
    assert wrong(task, KEYS) == []
    assert wrong(task["resources"], RESOURCES) == []
    assert re.fullmatch(r"[A-Z]\w+:[1-9]\d*", task["resources"]["accelerators"])
    assert re.fullmatch(r"\d+\+", task["resources"]["cpus"])
    assert all(isinstance(value, str) and value for value in task["envs"].values())


@every_task
def test_its_scripts_are_bash_and_name_no_unknown_variable(path: Path) -> None:
    task = read(path)
    for script in (task["setup"], task["run"]):
        assert script.startswith("set -e\n")
        subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=30)
        assert set(re.findall(r"\$\{?(\w+)", script)) <= {*task["envs"], *GIVEN}


@every_task
def test_its_commands_options_and_recipe_exist(path: Path) -> None:
    task = read(path)
    script = task["run"].replace("\\\n", " ")
    verbs = re.findall(r"quantale(?:\.cli)? ([a-z]+)([^\n]*)", script)
    assert verbs
    for verb, rest in verbs:
        known = get_command(app).commands[verb]  # type: ignore[attr-defined]
        options = {option for parameter in known.params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= options
    recipe = load_recipe(task["envs"]["RECIPE"], [], task["envs"].get("PROFILE")).recipe
    assert recipe.train is not None
    assert recipe.train.batch_size >= task.get("num_nodes", 1)


@every_task
def test_what_is_installed_is_pinned_and_of_this_project(path: Path) -> None:
    setup = read(path)["setup"]
    (extras,) = re.findall(r"--constraint constraints\.txt '\.\[([\w,]+)\]'", setup)
    project = (ROOT / "pyproject.toml").read_text()
    assert [one for one in extras.split(",") if not re.search(rf"^{one} = \[", project, re.M)] == []


def test_the_benchmark_asks_for_one_t4_and_several_nodes_for_several() -> None:
    tasks = {path.stem: read(path) for path in TASKS}
    assert tasks["benchmark-t4"]["resources"]["accelerators"] == "T4:1"
    assert tasks["benchmark-t4"].get("num_nodes", 1) == 1
    assert tasks["multi-node"]["num_nodes"] > 1


@pytest.mark.peers
@every_task
def test_skypilots_own_parser_takes_it(path: Path, tmp_path: Path) -> None:
    python = os.environ.get("SKYPILOT_PYTHON")
    if python is None:
        pytest.skip("SKYPILOT_PYTHON names no interpreter that has SkyPilot")
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("PYTHONPATH", None)
    command = [python, "-c", PARSE, str(path)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) == read(path).get("num_nodes", 1)
