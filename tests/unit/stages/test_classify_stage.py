"""From labelled texts and tiny classifiers to records, a recipe's page and a comparison."""

import json
from pathlib import Path
from typing import Any

import pytest
from shared_data import SHARED, needs_shared
from tiny_models import tiny_classifier, tiny_llama

from quantale.cli.app import main
from quantale.core.errors import OutputExistsError, UsageError
from quantale.core.progress import Silent
from quantale.core.recipe_file import load_recipe
from quantale.core.records import read_json, read_lines
from quantale.data.tokenizers import train_characters
from quantale.quant.methods.rtn import Rtn
from quantale.quant.save import write_model
from quantale.quant.whole import Methods, quantize_model
from quantale.report.compare import compare_files
from quantale.stages.classify import classify_models
from quantale.stages.pipeline import run_recipe
from quantale.stages.requests import ClassifyRequest

NAMES = ("World", "Sports", "Business", "Sci/Tech")
TOKENIZER = train_characters(["".join(map(chr, range(32, 123))) + "\n"])


def saved(folder: Path, *, is_packed: bool = False, seed_names: bool = True) -> Path:
    model = tiny_classifier("Llama")
    if seed_names:
        model.config.id2label = dict(enumerate(NAMES))
        model.config.label2id = {name: number for number, name in enumerate(NAMES)}
    if is_packed:
        quantize_model(model, Methods(Rtn(3, 16)))
    write_model(model, TOKENIZER, folder)
    return folder


def news(folder: Path, rows: int = 60) -> Path:
    lines = [f'{i % 4},"story {i} about {"xyzw"[i % 4] * (i % 7 + 1)}"' for i in range(rows)]
    path = folder / "news.csv"
    path.write_text("label,text\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifiers")
    saved(folder / "base")
    saved(folder / "w3", is_packed=True)
    news(folder)
    return folder


def request(place: Path, *names: str, **more: Any) -> ClassifyRequest:
    models = tuple(str(place / name) for name in names)
    return ClassifyRequest(models, str(place / "news.csv"), **more)


def test_records_pair_base_and_packed_model(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    asked = request(place, "w3", base=str(place / "base"))
    found = classify_models(asked, out, Silent())
    lines = read_lines(out)
    rows = [line for line in lines if "document" in line]
    assert len(rows) == 2 * 60
    assert rows[0]["document"] == "news.csv/0"
    assert set(rows[0]["probabilities"]) == set(NAMES)
    assert rows[1]["label"] == "Sports"
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1.0)
    numbers = {(r["model"], r["metric"]): r for r in found["results"]}
    right = sum(r["label"] == r["predicted"] for r in rows if r["model"] == "w3")
    assert numbers["w3", "accuracy"]["value"] == right / 60
    assert numbers["w3", "accuracy"]["kernel"] != "torch"
    assert numbers["w3", "broken"]["extra"]["base"] == "base"
    matrix = found["confusion"]["w3"]["matrix"]
    assert sum(map(sum, matrix)) == 60
    assert sum(matrix[i][i] for i in range(4)) == right
    (pair,) = compare_files(out, [], 0.5)["pairs"]
    assert (pair["metric"], pair["verdict"], pair["n"]) == ("accuracy", "PASS", 60)
    assert (pair["broken"], pair["fixed"]) == (
        numbers["w3", "broken"]["value"], numbers["w3", "fixed"]["value"],
    )  # fmt: skip
    with pytest.raises(OutputExistsError):
        classify_models(asked, out, Silent())


def test_the_command_shows_report_and_matrix_and_needs_no_names(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(place / "base"), "--data", str(place / "news.csv")]
    assert main([*words, "--task", "classification", "--limit", "20"]) == 0
    shown = capsys.readouterr().out
    assert "head(classes=4,length=64)" in shown
    assert "macro avg" in shown
    assert "columns are what it said" in shown


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--task", "classification", "--route", "haed"], "did you mean 'head'"),
        (["--task", "clasification"], "did you mean 'classification'"),
        (["--words", "a,b"], "--words belongs to --task classification"),
        (["--task", "classification", "--classes", "a,b"], "which is none of a, b"),
        (["--task", "classification", "--label", "labels"], "did you mean 'label'"),
    ],
)
def test_wrong_options_are_explained(
    place: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(place / "base"), "--data", str(place / "news.csv")]
    assert main([*words, *more]) in (2, 3)
    assert said in capsys.readouterr().err


def test_the_likelihood_route_asks_a_language_model_with_words(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tiny_llama(), TOKENIZER, tmp_path / "lm")
    words = ["evaluate", str(tmp_path / "lm"), "--data", str(place / "news.csv"), "--json"]
    words += ["--task", "classification", "--route", "likelihood", "--normalise", "byte"]
    words += [
        "--classes",
        ",".join(NAMES),
        "--template",
        "{text}\\nIt is",
        "--words",
        " w, s, b, t",
    ]
    assert main([*words, "--limit", "12", "--out", str(tmp_path / "lm.jsonl")]) == 0
    found = json.loads(capsys.readouterr().out)
    protocol = found["results"][0]["protocol"]
    assert protocol.startswith("likelihood(classes=4,length=64,normalise=byte,template=")
    head = tmp_path / "head.jsonl"
    classify_models(request(place, "base", limit=12), head, Silent())
    with pytest.raises(UsageError, match="differ in protocol"):
        compare_files(head, [tmp_path / "lm.jsonl"])


RECIPE = """
name: news
data: {source: NEWS, test: NEWS}
tokenizer: {kind: pretrained}
model: {kind: pretrained, path: MODEL}
variants:
  - {name: w8, method: rtn, bits: 8, group_size: row}
  - {name: w2, method: rtn, bits: 2, group_size: row}
evaluate: {documents: 60, classification: {label: label}}
bench: null
"""


def test_a_recipe_ends_with_matrices_on_the_page(place: Path, tmp_path: Path) -> None:
    text = RECIPE.replace("NEWS", str(place / "news.csv")).replace("MODEL", str(place / "base"))
    path = tmp_path / "news.yaml"
    path.write_text(text, encoding="utf-8")
    done = run_recipe(
        load_recipe(str(path)), tmp_path / "run", only=None, resume=False, progress=Silent()
    )
    page = done.report.read_text(encoding="utf-8")
    for words in ("Confusion matrices", "Macro F1", "Calibration error", "0.5-point margin", "w2"):
        assert words in page
    assert set(done.summary["verdicts"]) == {"w8", "w2"}
    verdicts = read_json(tmp_path / "run" / "compare" / "verdicts.json")
    assert [pair["metric"] for pair in verdicts["macro_f1"]] == ["macro_f1"] * 2
    numbers = read_lines(tmp_path / "run" / "compare" / "results.jsonl")
    assert {"accuracy", "delta_accuracy", "macro_f1"} <= {one["metric"] for one in numbers}
    assert compare_files(tmp_path / "run", [], 0.005)["verdict"] == done.summary["verdict"]
    text = (tmp_path / "run" / "compare" / "report.md").read_text(encoding="utf-8")
    assert "Accuracy" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("bench=null", ""),
        ("bench={}", "a classifier decodes nothing"),
        ("report.prompts=[Once]", "continues no prompt"),
        ("evaluate.classification.route=heed", "did you mean 'head'"),
    ],
)
def test_a_recipe_of_a_classifier_asks_nothing_of_language(
    place: Path, tmp_path: Path, change: str, said: str
) -> None:
    path = tmp_path / "news.yaml"
    path.write_text(RECIPE.replace("NEWS", "a.csv").replace("MODEL", "m"), encoding="utf-8")
    if not said:
        assert load_recipe(str(path), [change]).recipe.bench is None
        return
    with pytest.raises(UsageError, match=said):
        load_recipe(str(path), [change])


@needs_shared
def test_real_news_are_read_with_their_four_classes(tmp_path: Path) -> None:
    saved(tmp_path / "model", seed_names=False)
    data = str(SHARED / "ag_news" / "test.csv")
    asked = ClassifyRequest((str(tmp_path / "model"),), data, limit=40, classes=NAMES)
    found = classify_models(asked, None, Silent())
    confusion = found["confusion"]["model"]
    assert confusion["classes"] == NAMES
    assert sum(map(sum, confusion["matrix"])) == 40
