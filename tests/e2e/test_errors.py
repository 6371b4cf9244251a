"""Faults that need real files, through the real command: code, one line, nothing written.

`tests/unit/cli` holds the faults that are found before any file is opened.
"""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils import logging

from quantale.cli.app import main
from quantale.core.files import is_sealed, verify

GPTQ = "--method gptq --bits 4 --calibration story.txt --nsamples 8"
LETTERS = "abcdefghijkl"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_bars() -> Iterator[None]:
    """The command turns them off through the environment, before transformers is imported."""
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def write_model(folder: Path, letters: str = LETTERS, layers: int = 2) -> None:
    torch.manual_seed(0)
    vocabulary = {word: index for index, word in enumerate(["<e>", "<u>", *letters])}
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=16,
        n_embd=32,
        n_layer=layers,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<u>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<u>", bos_token="<e>")
    wrapped.save_pretrained(folder)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model")
    story = "\n\n".join(" ".join(LETTERS) for _ in range(60))
    (tmp_path / "story.txt").write_text(story, encoding="utf-8")
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    return tmp_path


def listing(folder: Path) -> dict[str, int]:
    """Every file and folder with the time of its last change."""
    found = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in found}


def failed(words: str, capsys: Capture, *, written: bool = False) -> tuple[int, str]:
    """Run a verb that fails; returns its code and its one line."""
    before = listing(Path())
    code = main(words.split())
    assert written or listing(Path()) == before
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert shown.err.endswith(f"{errors[0]}\n")
    return code, errors[0]


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as on a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_packed_model_has_no_layer_left_to_quantize(place: Path, capsys: Capture) -> None:
    assert main(["quantize", "model", "--method=rtn", "--bits=4", "--out=packed"]) == 0
    capsys.readouterr()
    for method in ("--method rtn --bits 3", GPTQ):
        code, line = failed(f"quantize packed {method} --out again", capsys)
        assert code == 2
        assert "no linear layer of a transformer block matches" in line


@pytest.mark.parametrize("verb", ["run", "plan", "train"])
def test_an_unknown_recipe_key_is_named_with_its_line_and_the_nearest(
    verb: str, place: Path, capsys: Capture
) -> None:
    assert main(["recipes", "quickstart"]) == 0
    text = capsys.readouterr().out
    row = next(i for i, part in enumerate(text.splitlines(), 1) if "vocab_size:" in part)
    (place / "mine.yaml").write_text(text.replace("vocab_size:", "vocabsize:", 1))
    out = "" if verb == "plan" else "--out o"
    code, line = failed(f"{verb} mine.yaml {out}", capsys)
    assert code == 2
    assert f"mine.yaml:{row}" in line
    assert "did you mean 'vocab_size'" in line


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("evaluate model --data empty.txt --out o.jsonl", 3, "empty.txt is empty"),
        ("compare model model --data empty.txt --out o", 3, "empty.txt is empty"),
        ("train --model model --data empty.txt --out o", 3, "empty.txt is empty"),
        ("run quickstart --set data.source=empty.txt --out o", 3, "empty.txt is empty"),
        ("evaluate model --data story.txt --out empty.txt", 5, "empty.txt: exists already"),
        (f"quantize model {GPTQ} --out model", 5, "model: exists already"),
        (f"quantize model {GPTQ} --seqlen 17 --out o", 2, "exceed the context of 16"),
        (f"quantize model {GPTQ.replace('8', '80')} --out o", 3, "token"),
    ],
)
def test_bad_data_and_existing_outputs(
    words: str, code: int, message: str, place: Path, capsys: Capture
) -> None:
    found, line = failed(words, capsys)
    assert message in line
    assert found == code


@pytest.mark.parametrize("verb", ["compare model other --out o", "evaluate model other"])
def test_models_of_different_vocabularies_are_not_paired(
    verb: str, place: Path, capsys: Capture
) -> None:
    write_model(place / "other", LETTERS[:-1])
    code, line = failed(f"{verb} --data story.txt", capsys)
    assert code == 2
    assert "different tokenizers" in line


def test_every_flipped_bit_of_a_safetensors_header_is_refused_or_harmless(
    place: Path, capsys: Capture
) -> None:
    path = place / "model" / "model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    draw = random.Random(0)
    begin = 8 + whole[8 : 8 + length].index(b"transformer.")
    places = [*range(6), *(draw.randrange(begin, 8 + length) for _ in range(30))]
    for byte in places:
        damaged = bytearray(whole)
        damaged[byte] ^= 1 << draw.randrange(7)
        path.write_bytes(damaged)
        code, _ = failed("inspect model", capsys)
        assert code == 4, f"byte {byte}"
    path.write_bytes(whole)
    assert main(["inspect", "model"]) == 0


@pytest.mark.parametrize("left", [0, 5, 300, 5000])
def test_a_file_cut_anywhere_is_refused(left: int, place: Path, capsys: Capture) -> None:
    path = place / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    assert failed(f"quantize model {GPTQ} --out o", capsys)[0] == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(
    value: float, place: Path, capsys: Capture
) -> None:
    path = place / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors["transformer.h.1.mlp.c_fc.weight"][3, 4] = value
    save_file(tensors, path, {"format": "pt"})
    code, line = failed(f"quantize model {GPTQ} --out o", capsys)
    assert code == 4
    assert "transformer.h.1.mlp.c_fc.weight" in line


@pytest.mark.parametrize("room", [100, 6000, 20000])
def test_a_full_disk_leaves_nothing_of_a_method_without_calibration(
    room: int, place: Path, capsys: Capture
) -> None:
    with disk_of(room):
        code, line = failed("quantize model --method rtn --bits 8 --out deep/o", capsys)
    assert code == 6
    assert "cannot be written" in line


def test_a_full_disk_is_noticed_before_calibration_starts(place: Path, capsys: Capture) -> None:
    with disk_of(8000):
        code, line = failed(f"quantize model {GPTQ} --out o", capsys)
    assert code == 6
    assert "cannot be written" in line


def test_a_half_made_output_is_continued_only_on_request_and_with_the_same_settings(
    place: Path, capsys: Capture
) -> None:
    with disk_of(20000):
        code, _ = failed(f"quantize model {GPTQ} --out o", capsys, written=True)
    assert code == 6
    assert not (place / "o").exists()
    assert sorted(p.name for p in (place / ".o.partial/scratch").glob("block-*")) == [
        "block-0000",
        "block-0001",
    ]
    code, line = failed(f"quantize model {GPTQ} --out o", capsys)
    assert (code, "--resume" in line) == (5, True)
    for other in (GPTQ.replace("4", "3"), f"{GPTQ} --seed 1", f"{GPTQ} --set damp=0.1"):
        code, line = failed(f"quantize model {other} --out o --resume", capsys)
        assert (code, "other settings" in line) == (5, True)
    assert main(f"quantize model {GPTQ} --out o --resume".split()) == 0
    verify(place / "o", full=True)
    assert not (place / ".o.partial").exists()


@pytest.mark.slow
def test_an_interrupted_run_ends_in_order_and_can_be_resumed(place: Path, capsys: Capture) -> None:
    layers = 40  # so many that the first is done long before the last
    write_model(place / "deep", layers=layers)
    signals = {130: signal.SIGINT, 143: signal.SIGTERM}
    running = {code: started(f"quantize deep {GPTQ} --out o{code}") for code in signals}
    interrupt({running[code]: number for code, number in signals.items()})
    shown = [process.communicate(timeout=120)[1] for process in running.values()]
    assert [process.returncode for process in running.values()] == list(running)
    for text in shown:
        errors = [line for line in text.splitlines() if not line.startswith("quantize ")]
        assert len(errors) == 1
        assert errors[0].startswith("error: ")
    names = {path.name for path in place.iterdir()}
    assert names == {"model", "deep", "story.txt", "empty.txt", ".o130.partial", ".o143.partial"}
    assert main(f"quantize deep {GPTQ} --out o143 --resume --json".split()) == 0
    assert json.loads(capsys.readouterr().out)["sites_quantized"] == 4 * layers
    verify(place / "o143", full=True)


def started(words: str) -> "subprocess.Popen[str]":
    """Start a command that hears SIGINT, which a job in the background of a shell does not."""
    command = [sys.executable, "-m", "quantale.cli", *words.split()]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=_hear)


def _hear() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt(waiting: dict["subprocess.Popen[str]", signal.Signals]) -> None:
    """Send every process its signal as soon as its first block is finished."""
    limit = time.monotonic() + 120
    while waiting:
        for process, number in list(waiting.items()):
            assert process.poll() is None
            out = str(process.args[-1])  # type: ignore[index]
            if is_sealed(Path(f".{out}.partial/scratch/block-0000")):
                process.send_signal(number)
                del waiting[process]
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--preset w9g32", "bits: Input should be less than or equal to 8; 9 came"),
        ("--bits 4 --group-size 0", "group_size: "),
        ("--preset w0", "bits: Input should be greater than or equal to 1; 0 came"),
    ],
)
def test_bits_and_groups_out_of_range_are_usage_errors(
    place: Path, capsys: Capture, options: str, message: str
) -> None:
    code, line = failed(f"quantize model --method rtn {options} --out o", capsys)
    assert (code, message in line) == (2, True), line
    assert not (place / "o").exists()
