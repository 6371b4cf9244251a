"""Help is quick and light: no verb loads torch before it needs it."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

VERBS = (
    "run",
    "recipes",
    "plan",
    "doctor",
    "train",
    "quantize",
    "evaluate",
    "stories",
    "code",
    "compare",
    "inspect",
    "generate",
)
HEAVY = ("torch", "transformers", "datasets", "numpy", "matplotlib", "rich")
SCRIPT = """
import sys
from quantale.cli.app import main
codes = [main(words.split()) for words in sys.argv[2:]]
loaded = [name for name in sys.argv[1].split() if name in sys.modules]
print(codes, loaded, file=sys.stderr)
"""


def run_light(heavy: tuple[str, ...], *commands: str) -> str:
    command = [sys.executable, "-c", SCRIPT, " ".join(heavy), *commands]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr


def test_help_of_every_verb_and_recipes_import_nothing_heavy() -> None:
    commands = ["--help", "recipes", "recipes quickstart", *(f"{verb} --help" for verb in VERBS)]
    assert run_light(HEAVY, *commands) == f"{[0] * len(commands)} []\n"


def test_comparing_result_files_never_loads_torch(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    row = {"document": "d", "nll": 1.0, "tokens": 2, "bytes": 3}
    rows = [{**row, "model": name, "document": f"d{i}"} for name in "ab" for i in range(9)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    shown = run_light(("torch", "transformers", "datasets"), f"compare {path}")
    assert shown == "[0] []\n"


@pytest.mark.parametrize("key", ["nll", "predicted"])
def test_two_result_files_are_compared_in_a_moment(tmp_path: Path, key: str) -> None:
    """A second is promised; the bound is wide for a machine that does other things."""
    kinds: dict[str, dict[str, object]] = {
        "nll": {"nll": 1.0, "tokens": 2, "bytes": 3},
        "predicted": {"predicted": "a", "label": "a", "probabilities": {"a": 0.7, "b": 0.3}},
    }
    for name in "ab":
        rows = [{"model": name, "document": f"d{i}", **kinds[key]} for i in range(1000)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    command = ["-m", "quantale.cli", "compare", f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl"]
    assert min(processor_seconds([*command, "--margin", "0.01"]) for _ in range(3)) < 2.0
    shown = run_light(("torch", "transformers", "sklearn", "scipy"), " ".join(command[2:]))
    assert shown == "[0] []\n"


def test_a_typing_error_is_answered_without_torch() -> None:
    shown = run_light(HEAVY, "quantize gpt2 --method gtpq", "run quickstart --set a.b=3")
    assert shown.endswith("[2, 2] []\n")


def test_help_loads_its_parser_and_little_else() -> None:
    """Modules are counted, not seconds: a busy machine does not change them (287 here)."""
    script = "main(['quantize', '--help']); print(len(sys.modules), file=sys.stderr)"
    command = [sys.executable, "-c", f"import sys; from quantale.cli.app import main; {script}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stderr) < 400


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["quantize", "--help"]])
def test_help_takes_less_than_half_a_second(words: list[str]) -> None:
    assert min(processor_seconds(["-m", "quantale.cli", *words]) for _ in range(5)) < 0.5


def processor_seconds(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
