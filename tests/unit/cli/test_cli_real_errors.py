"""Faults of real files through the real stages: the code, one line, nothing written."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils import logging

from quantale.cli.app import main


@pytest.fixture(autouse=True)
def _no_bars() -> Iterator[None]:
    """The command turns them off through the environment, before transformers is imported."""
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "model"
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=8, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate(["<e>", "<u>", *"abcdef"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<u>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<u>", bos_token="<e>")
    wrapped.save_pretrained(folder)
    (tmp_path / "story.txt").write_text("a b c d\n", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    return folder


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def flip_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[7] = 0xFF
    path.write_bytes(bytes(data))


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def forget_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def names(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("quantize model --method rtn --set scal=3 --bits 4 --out o", 2),
        ("quantize model --method rtn --rules none.yaml --out o", 2),
        ("quantize model --method gptq --bits 4 --calibration empty.txt --out o", 3),
        ("quantize model --method gptq --bits 4 --calibration none.txt --out o", 3),
        ("quantize model --method gptq --bits 4 --calibration story.txt --seqlen 8 --out o", 3),
        ("quantize model --method rtn --bits 4 --out there", 5),
    ],
)
def test_quantize_reports_one_line(
    words: str, code: int, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(model.parent)
    assert main(words.split()) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [line[:7] for line in shown.err.splitlines()] == ["error: "]
    assert names(model.parent) == before


@pytest.mark.parametrize("damage", [truncate, flip_header, pickle_only, forget_config])
@pytest.mark.parametrize("words", ["generate model", "quantize model --method rtn --bits 4"])
def test_a_damaged_or_refused_model_exits_4(
    damage: Callable[[Path], None],
    words: str,
    model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(model)
    before = names(model.parent)
    assert main(words.split()) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [line[:7] for line in shown.err.splitlines()] == ["error: "]
    assert names(model.parent) == before
