"""What every exporter owes its users, whichever plug-in it is."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from export_cases import accepted, flip, largest, source_of
from tiny_models import FAMILIES, tiny_classifier, tiny_family, windows

from quantale.cli.app import main
from quantale.core.errors import ModelFileError, QuantaleError
from quantale.core.files import MANIFEST
from quantale.core.registry import EXPORTERS
from quantale.export.exporter import WORST, Exporter
from quantale.export.source import Source
from quantale.export.verify import verify_export
from quantale.models.load import load
from quantale.quant.save import write_model

ENOUGH = 5.0
"""Divergence that a coarse grid may cost these random models, nats a token."""

every_name = pytest.mark.parametrize("name", EXPORTERS.names())


def exporter_of(name: str) -> Exporter:
    made: Exporter = EXPORTERS.get(name)()
    return made


def first_case(name: str) -> tuple[Source, str]:
    family, packing, kind = accepted(name)[0]
    return source_of(family, packing), kind


@every_name
def test_it_names_its_types_and_says_how_its_files_are_loaded(name: str) -> None:
    kind = EXPORTERS.get(name)
    assert kind.types
    assert len(set(kind.types)) == len(kind.types)
    assert "FOLDER" in kind.loading
    compile(kind.loading, name, "exec")
    assert inspect.getdoc(kind)
    assert sys.modules[kind.__module__].__doc__


@every_name
def test_whatever_it_accepts_is_written_and_verified(name: str, tmp_path: Path) -> None:
    assert accepted(name), "no model of the cases is accepted"
    for family, packing, kind in accepted(name):
        folder = tmp_path / f"{family}-{packing}-{kind}"
        folder.mkdir()
        exporter, source = exporter_of(name), source_of(family, packing)
        written = exporter.write(source, kind, folder)
        verified = verify_export(exporter, source, written, folder, windows(2), ENOUGH)
        assert written.kind in exporter.types
        assert written.grade in WORST
        assert (written.grade == "requantized") >= bool(written.requantized)
        limit = {"exact": 1e-4, "rounded": 1e-2}.get(written.grade, ENOUGH)
        assert verified.kl_mean <= limit, (family, packing, kind)


@every_name
def test_writing_leaves_the_model_as_it_was(name: str, tmp_path: Path) -> None:
    source, kind = first_case(name)
    before = {key: tensor.clone() for key, tensor in source.plain.state_dict().items()}
    exporter_of(name).write(source, kind, tmp_path)
    after = source.plain.state_dict()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    assert all(tensor.dtype == after[key].dtype for key, tensor in before.items())


@every_name
def test_the_same_model_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    source, kind = first_case(name)
    contents = []
    for place in (tmp_path / "one", tmp_path / "two"):
        place.mkdir()
        exporter_of(name).write(source, kind, place)
        contents.append({path.name: path.read_bytes() for path in place.iterdir()})
    assert contents[0] == contents[1]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-33]),
    "bit at 50 %": lambda path: flip(path, 0.5),
    "bit at 70 %": lambda path: flip(path, 0.7),
    "bit at 90 %": lambda path: flip(path, 0.9),
    "empty": lambda path: path.write_bytes(b""),
}


@every_name
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_export_is_refused(name: str, how: str, tmp_path: Path) -> None:
    source, kind = first_case(name)
    exporter = exporter_of(name)
    written = exporter.write(source, kind, tmp_path)
    DAMAGE[how](largest(tmp_path))
    with pytest.raises(ModelFileError) as caught:
        verify_export(exporter, source, written, tmp_path, windows(2), ENOUGH)
    assert "\n" not in str(caught.value)


@every_name
def test_the_verb_publishes_a_sealed_folder_or_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, kind = first_case(name)
    model = tmp_path / "model"
    model.mkdir()
    write_model(source.model, source.tokenizer, model)
    words = ["export", str(model), "--format", name, "--type", kind, "--samples", "2"]
    assert main([*words, "--out", str(tmp_path / "good"), "--max-kl", "5"]) == 0
    assert (tmp_path / "good" / MANIFEST).is_file()
    assert (tmp_path / "good" / "export.json").is_file()

    write = EXPORTERS.get(name).write

    def broken(self: Exporter, source: Source, kind: str, folder: Path) -> object:
        written = write(self, source, kind, folder)
        flip(largest(folder), 0.6)
        return written

    monkeypatch.setattr(EXPORTERS.get(name), "write", broken)
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "bad"), "--max-kl", "5"]) == 4
    assert len(capsys.readouterr().err.strip().splitlines()[-1]) > 20
    assert [path.name for path in tmp_path.iterdir() if "bad" in path.name] == []

    flip(largest(tmp_path / "good"), 0.6)
    with pytest.raises(ModelFileError, match="seal"):
        load(tmp_path / "good")


@every_name
def test_a_model_that_it_cannot_write_is_refused_in_one_line(name: str) -> None:
    exporter = exporter_of(name)
    reasons: list[str] = []
    models = [tiny_family(family) for family in FAMILIES] + [tiny_classifier("GPT2")]
    for model in models:
        for kind in exporter.types:
            try:
                exporter.check(Source(model, None, torch.float32), kind)
            except QuantaleError as error:
                reasons.append(str(error))
    assert reasons or name in ("hf", "bitsandbytes")
    assert all("\n" not in reason and len(reason) > 20 for reason in reasons)
