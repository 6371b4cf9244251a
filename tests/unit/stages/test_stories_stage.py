"""The stages that let models write: what they seal, and that the same work is not done twice."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quantale.core.errors import DataError, UsageError
from quantale.core.progress import Silent
from quantale.core.recipe_writing import CodeSection, StoriesSection
from quantale.core.records import read_json, read_lines
from quantale.data.documents import Document, Documents
from quantale.data.load import load_documents
from quantale.data.tokenizers import train_bpe
from quantale.evaluation.stats import Bootstrap
from quantale.evaluation.stories.metrics import METRICS
from quantale.models.build import build_model
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.stages.code import CodePlan, code_stage
from quantale.stages.requests import StoriesRequest
from quantale.stages.stories import stories_stage, write_stories
from quantale.stages.story_writer import StoryPlan

SECTION = StoriesSection(prompts=6, samples=2, new_tokens=24, batch_size=8)
HOW = Bootstrap(200)
FUNCTIONS = [
    f'def f{i}(x):\n    """Return x and {i}."""\n    y = x + {i}\n    return y\n' for i in range(5)
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two random models of one tokenizer."""
    texts = load_documents("storygen[train][:60]").texts
    tokenizer = train_bpe([*texts, *FUNCTIONS], 400)
    found = {}
    for seed, name in enumerate(("base", "other")):
        folder = tmp_path_factory.mktemp(name)
        config = NanoGPTConfig(
            vocab_size=len(tokenizer), n_positions=200, n_embd=32, n_layer=1, n_head=2,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        model = build_model(config, seed=seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(5 if parameter.dim() == 2 else 1)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        found[name] = folder
    return found


def plan_of(folders: dict[str, Path], section: StoriesSection = SECTION) -> StoryPlan:
    return StoryPlan(
        folders,
        {name: name for name in folders},
        "base",
        load_documents("storygen[test][:8]"),
        load_documents("storygen[train][:60]"),
        section,
        HOW,
    )


def test_the_stage_seals_prompts_stories_records_and_a_summary(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    plan, out = plan_of(folders), tmp_path / "stories"
    run = stories_stage(plan, out, resume=False, progress=Silent())
    prompts = {one["id"]: one for one in read_lines(out / "prompts.jsonl")}
    stories = read_lines(out / "stories.jsonl")
    assert len(prompts) == 6
    assert [one["model"] for one in stories].count("corpus") == 6
    assert [one["model"] for one in stories].count("other") == 12
    texts = {document.id: document.text for document in plan.documents.items}
    for one in stories:
        prompt = prompts[one["prompt"]]
        whole = texts[one["prompt"]]
        assert whole.startswith(prompt["given"])
        assert len(prompt["given"].split()) >= 12
        if one["model"] == "corpus":
            assert whole.startswith(prompt["given"] + one["text"])
            assert one["ended"] == (whole == prompt["given"] + one["text"])
    records = read_lines(out / "results.jsonl")
    assert {one["metric"] for one in records} <= {metric.name for metric in METRICS}
    assert {one["model"] for one in records} == {"corpus", "base", "other"}
    assert len({one["protocol"] for one in records}) == 1
    assert records[0]["protocol"].startswith("stories(prompts=6,samples=2,new=24,")
    assert read_json(out / "summary.json")["classifier"]["stories"] == 60
    again = stories_stage(plan, out, resume=False, progress=Silent())
    assert again == run
    twin = stories_stage(plan, tmp_path / "twin", resume=False, progress=Silent())
    for name in ("stories.jsonl", "results.jsonl"):
        assert (twin.path / name).read_bytes() == (out / name).read_bytes()


def test_a_template_fills_in_the_fields_and_asks_for_the_whole_story(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    section = StoriesSection(
        prompts=3, new_tokens=24, template="[CHARACTERS]: {characters}\n[PROMPT]: {prompt}\n"
    )
    stories_stage(plan_of(folders, section), tmp_path / "s", resume=False, progress=Silent())
    for one in read_lines(tmp_path / "s" / "prompts.jsonl"):
        assert one["given"].startswith("[CHARACTERS]: ")
        assert "characters" not in one["asked"].lower()
        assert one["names"]
        assert one["opening"] == ""


def test_what_gives_no_prompt_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    short = StoriesSection(prompts=3, opening_words=5000)
    with pytest.raises(DataError, match="goes on behind its opening"):
        stories_stage(plan_of(folders, short), tmp_path / "a", resume=False, progress=Silent())
    plan = plan_of({"corpus": folders["base"]})
    with pytest.raises(UsageError, match="rename"):
        stories_stage(plan, tmp_path / "b", resume=False, progress=Silent())
    bare = Documents.collect([Document("One. Two.", "x")], "t", "all")
    lacking = StoriesSection(prompts=1, template="{genre}")
    plan = StoryPlan({"base": folders["base"]}, {}, None, bare, bare, lacking, HOW)
    with pytest.raises(DataError, match="no 'genre'"):
        stories_stage(plan, tmp_path / "c", resume=False, progress=Silent())
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_of_more_than_half_the_context_is_left_out(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    long = Document(f"Once {'upon a time and ' * 80}. The end came.", "long")
    short = load_documents("storygen[test][:2]").items
    documents = Documents.collect([long, *short], "mixed", "all")
    plan = replace(plan_of({"base": folders["base"]}), documents=documents)
    stories_stage(plan, tmp_path / "s", resume=False, progress=Silent())
    summary = read_json(tmp_path / "s" / "summary.json")
    assert (summary["prompts"], summary["skipped_documents"]) == (2, 1)
    only = replace(plan, documents=Documents.collect([long], "long", "all"))
    with pytest.raises(DataError, match="half of the model's context"):
        stories_stage(only, tmp_path / "t", resume=False, progress=Silent())


def test_models_without_a_recipe_write_too(folders: dict[str, Path]) -> None:
    request = StoriesRequest((str(folders["other"]),), "storygen[:60]", str(folders["base"]))
    result = write_stories(request, SECTION, None, Silent())
    models = list(dict.fromkeys(one["model"] for one in result["results"]))
    assert models == ["corpus", folders["base"].name, folders["other"].name]


def test_the_code_stage_scores_both_parts_and_judges_what_is_written(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    items = [Document(text, f"f{index}") for index, text in enumerate(FUNCTIONS)]
    section = CodeSection(data="x", documents=4, prompts=3, new_tokens=20)
    documents = Documents.collect(items, "functions", "all")
    plan = CodePlan(folders, {}, "base", documents, section, HOW)
    code_stage(plan, tmp_path / "code", resume=False, progress=Silent())
    records = {
        (one["model"], one["metric"]): one for one in read_lines(tmp_path / "code/results.jsonl")
    }
    for model in folders:
        for part in ("code", "docstring"):
            assert records[model, f"perplexity_{part}"]["n"] == 4
            assert records[model, f"perplexity_{part}"]["value"] > 1
    assert records["corpus", "parses"]["value"] == 1
    assert 0 <= records["other", "parses"]["value"] <= 1
    bodies = read_lines(tmp_path / "code/functions.jsonl")
    assert len(bodies) == 3 * 3
    assert all(one["begun"].endswith('"""') for one in bodies)
    summary = read_json(tmp_path / "code/summary.json")
    assert (summary["documents"], summary["with_docstring"]) == (4, 4)
