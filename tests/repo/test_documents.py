"""Documents tell the truth where a machine can check it: links, recipes, plug-ins, code."""

import json
import re
from pathlib import Path

import pytest
from repository import ROOT, documents, fences, name_of
from tiny_models import tiny_nanogpt

from quantale.core.recipe_file import load_recipe, recipe_names
from quantale.core.registry import CORPORA, FORMATS, KERNELS, METHODS
from quantale.quant.methods.rtn import Rtn
from quantale.quant.stored import read_sites
from quantale.quant.whole import Methods, quantize_model

README = ROOT / "README.md"
STORAGE = ROOT / "docs" / "storage.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
NEEDS_THE_QUICKSTART = "from transformers import pipeline"
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def test_every_relative_link_leads_somewhere() -> None:
    lost = [
        f"{name_of(path)}: {match['target']}"
        for path in documents()
        for match in _LINK.finditer(_CODE.sub("", path.read_text(encoding="utf-8")))
        if not match["target"].startswith(("https://", "http://"))
        and not _leads_somewhere(path, match["target"])
    ]
    assert lost == []


def _leads_somewhere(document: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = document.parent / name if name else document
    if not anchor or not path.is_file():
        return path.exists() and not anchor
    return anchor in _anchors(path)


def _anchors(path: Path) -> set[str]:
    titles = _HEADING.findall(_CODE.sub("", path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_decision_is_listed_and_short() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    listed = re.findall(r"\(adr/([^)]+)\)", ARCHITECTURE.read_text(encoding="utf-8"))
    assert [page.name for page in pages] == sorted(listed)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert _HEADING.findall(text)[1:] == [
            "Context",
            "Decision",
            "Consequences",
            "Alternatives",
        ], page.name
        assert 15 <= len(text.splitlines()) <= 40, page.name


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_in_the_readme_and_is_valid(name: str) -> None:
    assert re.search(rf"\b{name}\b", README.read_text(encoding="utf-8"))
    assert load_recipe(name).recipe.name == name


@pytest.mark.parametrize("registry", [METHODS, FORMATS, KERNELS, CORPORA])
def test_the_architecture_names_every_kind_of_plug_in(registry: object) -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert f"`{registry.package}`" in text  # type: ignore[attr-defined]
    assert f"`{registry.group}`" in text  # type: ignore[attr-defined]


def test_the_architecture_names_every_folder_of_the_package() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    package = ROOT / "src" / "quantale"
    folders = [path.parent.name for path in sorted(package.glob("*/__init__.py"))]
    assert [name for name in folders if f"`src/quantale/{name}`" not in text] == []


@pytest.mark.parametrize(
    "fence",
    [
        fence
        for path in (README, STORAGE)
        for fence in fences(path, "python")
        if NEEDS_THE_QUICKSTART not in fence.text and "class " not in fence.text
    ],
    ids=lambda fence: fence.place,
)
def test_the_examples_with_bytes_hold(fence: object) -> None:
    text = fence.text  # type: ignore[attr-defined]
    assert text.count("assert ") >= 2
    exec(compile(text, "example", "exec"), {})


def test_the_configuration_in_the_storage_page_is_what_is_written() -> None:
    shown = json.loads(fences(STORAGE, "json")[0].text)
    (site,) = read_sites(shown)
    model = tiny_nanogpt()
    quantize_model(model, Methods(Rtn(3, 32)))
    written = model.config.quantization_config.to_dict()
    assert {key: written[key] for key in written if key != "sites"} == {
        key: shown[key] for key in shown if key != "sites"
    }
    assert written["sites"][site.name] | {"shape": [384, 128]} == shown["sites"][site.name]
