"""From models to stories and the panel: what every model writes behind the same beginnings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from quantale.core import run as runs
from quantale.core.errors import DataError, UsageError
from quantale.core.progress import Progress
from quantale.core.recipe_data import DataSection
from quantale.core.recipe_writing import StoriesSection
from quantale.core.records import Measurement, read_json, read_lines, write_json, write_lines
from quantale.core.run import Run, RunKey
from quantale.data.documents import Document
from quantale.data.load import load_documents
from quantale.evaluation.stats import Bootstrap
from quantale.evaluation.stories import panel
from quantale.evaluation.stories.copies import TrainingWords
from quantale.evaluation.stories.genre import GenreClassifier, train_classifier
from quantale.evaluation.stories.metrics import Prompt, Reference, Story
from quantale.evaluation.stories.prompts import Asking, Cut, Draft, draft, finish
from quantale.stages.corpus import open_parts
from quantale.stages.evaluate import named
from quantale.stages.origin import with_origins
from quantale.stages.quantize import source_of
from quantale.stages.requests import StoriesRequest
from quantale.stages.story_writer import StoryPlan, StoryWriter, asking_of

VERSION = 2
_CLASSIFIED = 5_000


@dataclass(frozen=True)
class _Told:
    """Everything that the folder holds."""

    prompts: list[Prompt]
    panel: panel.Panel
    found: list[Measurement]
    summary: dict[str, Any]


def stories_stage(plan: StoryPlan, out: Path, *, resume: bool, progress: Progress) -> Run:
    """Let every model write into a sealed run, or return the run that is there already."""
    settings = plan.section.model_dump(mode="json") | {
        "base": plan.base,
        "bootstrap": asdict(plan.bootstrap),
    }
    parents = {
        **plan.digests,
        "data": plan.documents.sha256,
        "training data": plan.training.sha256,
    }
    key = RunKey("stories", VERSION, settings, parents)
    done = runs.sealed(out, key)
    if done is not None:
        progress.note(f"{out} is there already: skipped")
        return done
    with runs.making(out, key, resume=resume) as folder:
        told = tell(plan, progress)
        write_lines(folder / "prompts.jsonl", [_prompt_record(one) for one in told.prompts])
        write_lines(folder / "stories.jsonl", [_record(*pair) for pair in told.panel.scored])
        write_lines(folder / "results.jsonl", told.found)
        write_json(folder / "summary.json", told.summary)
    return runs.open_run(out)


def write_stories(
    request: StoriesRequest, section: StoriesSection, out: Path | None, progress: Progress
) -> dict[str, Any]:
    """Let models write on a data expression and return the `--json` fields.

    Without data of their own for training, the training part of the same source is taken. With
    `out` the run is sealed there, stories included.
    """
    training, _, test = open_parts(DataSection(source=request.data), request.seed)
    if request.training is not None:
        test = load_documents(request.data, split="test", seed=request.seed)
        training = load_documents(request.training, split="train", seed=request.seed)
    names = named([*([request.base] if request.base else []), *request.models])
    plan = StoryPlan(
        {name: Path(path) for name, path in names.items()},
        {},
        next(iter(names)) if request.base else None,
        test,
        training,
        section,
        Bootstrap(seed=request.seed),
    )
    if out is None:
        told = tell(plan, progress)
        return {"results": [asdict(one) for one in told.found], "summary": told.summary}
    digests = {name: source_of(path).digest for name, path in names.items()}
    run = stories_stage(replace(plan, digests=digests), out, resume=False, progress=progress)
    return {
        "results": read_lines(run.path / "results.jsonl"),
        "summary": read_json(run.path / "summary.json"),
    }


def tell(plan: StoryPlan, progress: Progress) -> _Told:
    """Write and score all stories.

    Raises UsageError for two tokenizers, DataError for documents that give no prompt.
    """
    if panel.CORPUS in plan.folders:
        raise UsageError(f"{panel.CORPUS!r} is the name of the corpus' own stories: rename a model")
    asking = asking_of(plan.section)
    drafts = _drafts(plan.documents.items[: plan.section.prompts], asking)
    progress.stage("stories", len(plan.folders) * len(drafts) * plan.section.samples)
    writer = StoryWriter(plan, drafts)
    stories = [
        story
        for name, folder in plan.folders.items()
        for story in writer.write(name, folder, progress)
    ]
    prompts = [finish(one, asking, writer.cut) for one in writer.drafts]
    training = TrainingWords.of(plan.training.texts)
    reference = Reference(training, training.vocabulary.keys())
    classifier = _classifier(plan, prompts, asking, writer.cut)
    scored = panel.make_panel(
        [*panel.own_stories(prompts), *stories], prompts, reference, classifier
    )
    found = panel.measurements(scored, plan.base, writer.protocol, plan.bootstrap)
    found = with_origins(
        found,
        writer.origins,
        data_sha256=plan.documents.sha256,
        tokenizer_sha256=writer.tokenizer_sha256,
    )
    return _Told(prompts, scored, found, _summary(plan, writer, prompts, classifier))


def _drafts(documents: Sequence[Document], asking: Asking) -> list[Draft]:
    """Return a prompt for every document that has a story behind its opening."""
    found = [draft(one.id, one.text, one.fields, asking) for one in documents]
    kept = [one for one in found if one.rest.strip() and one.given]
    if not kept:
        raise DataError(
            f"none of {len(found)} documents goes on behind its opening of "
            f"{asking.opening_words} words; ask for a shorter one"
        )
    return kept


def _classifier(
    plan: StoryPlan, prompts: Sequence[Prompt], asking: Asking, cut: Cut
) -> GenreClassifier | None:
    """Train on the corpus, cut as the prompts' stories are; None without two genres."""
    if any(one.genre is None for one in prompts):
        return None
    drafts = [draft(d.id, d.text, d.fields, asking) for d in plan.training.items[:_CLASSIFIED]]
    known = [(cut(one.rest)[0], one.fields["genre"]) for one in drafts if "genre" in one.fields]
    if len({genre for _, genre in known}) < 2:
        return None
    return train_classifier([text for text, _ in known], [genre for _, genre in known], seed=0)


def _summary(
    plan: StoryPlan,
    writer: StoryWriter,
    prompts: Sequence[Prompt],
    classifier: GenreClassifier | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "protocol": writer.protocol,
        "base": plan.base,
        "data": f"{plan.documents.source} ({plan.documents.split})",
        "data_sha256": plan.documents.sha256,
        "training_data": f"{plan.training.source} ({plan.training.split})",
        "training_data_sha256": plan.training.sha256,
        "training_documents": len(plan.training),
        "prompts": len(prompts),
        "skipped_documents": min(plan.section.prompts, len(plan.documents)) - len(prompts),
        "new_tokens": writer.budget,
        "classifier": None,
    }
    if classifier is not None:
        found["classifier"] = {
            "genres": list(classifier.genres),
            "stories": classifier.stories,
            "floor": classifier.floor,
        }
    return found


def _prompt_record(one: Prompt) -> dict[str, Any]:
    return asdict(one) | {"names": sorted(one.names)}


def _record(story: Story, values: Mapping[str, float | None]) -> dict[str, Any]:
    return {
        "model": story.model,
        "prompt": story.prompt,
        "draw": story.draw,
        "text": story.text,
        "ended": story.ended,
        "metrics": dict(values),
    }
