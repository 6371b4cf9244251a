"""From models to numbers about Python: both parts of functions scored, and bodies written anew."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from quantale.core import run as runs
from quantale.core.errors import DataError
from quantale.core.progress import Progress
from quantale.core.recipe_writing import CodeSection
from quantale.core.records import Measurement, read_json, read_lines, write_json, write_lines
from quantale.core.run import Run, RunKey
from quantale.data.documents import Document, Documents
from quantale.data.load import load_documents
from quantale.data.tokenizers import tokenizer_sha256
from quantale.evaluation import language
from quantale.evaluation.code_parts import TASK, part_measurements
from quantale.evaluation.functions import Outcome, beginning, outcome
from quantale.evaluation.language import LanguageSettings
from quantale.evaluation.scores import DocumentScore
from quantale.evaluation.stats import Bootstrap
from quantale.evaluation.stories.metrics import Metric
from quantale.evaluation.stories.panel import CORPUS, Panel, measurements
from quantale.evaluation.windows import own_context
from quantale.models.load import LoadedModel
from quantale.stages.batches import BatchSettings, Request, budget, continue_prompts
from quantale.stages.corpus import first_documents
from quantale.stages.draws import Sampling
from quantale.stages.evaluate import load_all, named
from quantale.stages.generate import prompt_tokens
from quantale.stages.origin import origins_of, with_origins
from quantale.stages.quantize import source_of
from quantale.stages.requests import EvaluateRequest

VERSION = 2
METRICS = (
    Metric("parses", "share", "written functions that are Python"),
    Metric("empty", "share", "written functions without a statement"),
    Metric("ended", "share", "ends by itself within the tokens given"),
)


@dataclass(frozen=True)
class CodePlan:
    """Whose functions, and how."""

    folders: Mapping[str, Path]
    digests: Mapping[str, str]
    base: str | None
    documents: Documents
    """Functions, one a document."""
    section: CodeSection
    bootstrap: Bootstrap = field(default_factory=Bootstrap)


@dataclass(frozen=True)
class _Body:
    """One function whose body was written anew, or is the corpus' own."""

    model: str
    function: str
    begun: str
    written: str
    ended: bool
    outcome: Outcome


def code_stage(plan: CodePlan, out: Path, *, resume: bool, progress: Progress) -> Run:
    """Score and write functions into a sealed run, or return the run that is there already."""
    settings = plan.section.model_dump(mode="json") | {
        "base": plan.base,
        "bootstrap": asdict(plan.bootstrap),
    }
    key = RunKey("code", VERSION, settings, {**plan.digests, "data": plan.documents.sha256})
    done = runs.sealed(out, key)
    if done is not None:
        progress.note(f"{out} is there already: skipped")
        return done
    with runs.making(out, key, resume=resume) as folder:
        found, scores, bodies, summary = measure(plan, progress)
        write_lines(folder / "documents.jsonl", [one.record() for one in scores])
        write_lines(folder / "functions.jsonl", bodies)
        write_lines(folder / "results.jsonl", found)
        write_json(folder / "summary.json", summary)
    return runs.open_run(out)


def write_code(
    request: EvaluateRequest, section: CodeSection, out: Path | None, progress: Progress
) -> dict[str, Any]:
    """Measure models on a data expression and return the `--json` fields; `out` seals a run."""
    names = named([*([request.base] if request.base else []), *request.models])
    plan = CodePlan(
        {name: Path(path) for name, path in names.items()},
        {},
        next(iter(names)) if request.base else None,
        load_documents(section.data, split="test", seed=request.seed),
        section,
        Bootstrap(seed=request.seed),
    )
    if out is None:
        found, _, _, summary = measure(plan, progress)
        return {"results": [asdict(one) for one in found], "summary": summary}
    digests = {name: source_of(path).digest for name, path in names.items()}
    run = code_stage(replace(plan, digests=digests), out, resume=False, progress=progress)
    return {
        "results": read_lines(run.path / "results.jsonl"),
        "summary": read_json(run.path / "summary.json"),
    }


def measure(
    plan: CodePlan, progress: Progress
) -> tuple[list[Measurement], Sequence[DocumentScore], list[_Body], dict[str, Any]]:
    """Return the records, the scores of both parts, what was written, and a summary."""
    models, tokenizer = load_all(plan.folders)
    section = plan.section
    documents = first_documents(plan.documents, section.documents)
    progress.stage("code")
    settings = LanguageSettings(protocol="code", batch_size=section.batch_size)
    scores = language.score(models, tokenizer, documents, settings, plan.base)
    found = part_measurements(scores.documents, plan.base, scores.protocol, plan.bootstrap)
    functions = sum(one.document.endswith("#docstring") for one in scores.documents)
    summary: dict[str, Any] = {
        "protocol": scores.protocol,
        "data": f"{plan.documents.source} ({plan.documents.split})",
        "data_sha256": documents.sha256,
        "documents": len(documents),
        "with_docstring": functions // len(models),
        "skipped_documents": len(scores.skipped),
    }
    bodies: list[_Body] = []
    if section.prompts:
        bodies, written, summary["writing"] = _write(models, tokenizer, plan, progress)
        found += written
    return (
        with_origins(
            found,
            origins_of(models),
            data_sha256=documents.sha256,
            tokenizer_sha256=tokenizer_sha256(tokenizer),
        ),
        scores.documents,
        bodies,
        summary,
    )


def _write(
    models: Mapping[str, Any], tokenizer: Any, plan: CodePlan, progress: Progress
) -> tuple[list[_Body], list[Measurement], dict[str, Any]]:
    section = plan.section
    first = LoadedModel(next(iter(models.values())), tokenizer, Path())
    begun = _beginnings(plan.documents.items, first, section.prompts)
    tokens = budget(first, list(begun.values()), section.new_tokens)
    sampling = Sampling(section.temperature, section.top_k)
    settings = BatchSettings(tokens, sampling, section.batch_size, section.seed)
    requests = [Request(text, f"{name}/0") for name, text in begun.items()]
    bodies = _own_bodies(plan.documents.items, begun, tokenizer, tokens)
    progress.stage("functions", len(models) * len(requests))
    for model, network in models.items():
        loaded = LoadedModel(network, tokenizer, plan.folders[model])
        texts = continue_prompts(loaded, requests, settings, progress.advance)
        for (name, start), text in zip(begun.items(), texts, strict=True):
            judged = outcome(start, text.text, ended=text.ended)
            bodies.append(_Body(model, name, start, text.text, text.ended, judged))
    protocol = (
        f"functions(prompts={len(begun)},new={tokens},temperature={section.temperature:g},"
        f"top_k={section.top_k},seed={section.seed})"
    )
    panel = Panel(tuple(begun), _columns(bodies, list(begun)))
    found = measurements(panel, plan.base, protocol, plan.bootstrap, METRICS, TASK)
    return bodies, found, {"protocol": protocol, "prompts": len(begun), "new_tokens": tokens}


def _beginnings(items: Sequence[Document], loaded: LoadedModel, most: int) -> dict[str, str]:
    """Return beginnings that take up half of the context at most, by id of the function."""
    limit = (own_context(loaded.model) or 2**31) // 2
    found: dict[str, str] = {}
    for item in items:
        begun = beginning(item.text)
        if begun is not None and len(prompt_tokens(loaded.tokenizer, begun)) <= limit:
            found[item.id] = begun
        if len(found) == most:
            break
    if not found:
        raise DataError(
            f"none of {len(items)} functions has a docstring, a body and a beginning of at most "
            f"{limit} tokens; give other data, or write no functions"
        )
    return found


def _own_bodies(
    items: Sequence[Document], begun: Mapping[str, str], tokenizer: Any, tokens: int
) -> list[_Body]:
    """Return the corpus' own bodies, cut at the same number of tokens."""
    found = []
    for item in items:
        if item.id in begun:
            rest = item.text[len(begun[item.id]) :]
            ids = tokenizer(rest, add_special_tokens=False, verbose=False)["input_ids"]
            ended = len(ids) < tokens
            own = rest if ended else str(tokenizer.decode(ids[:tokens]))
            judged = outcome(begun[item.id], own, ended=ended)
            found.append(_Body(CORPUS, item.id, begun[item.id], own, ended, judged))
    return found


def _columns(bodies: Sequence[_Body], names: Sequence[str]) -> dict[tuple[str, str], np.ndarray]:
    by_key = {(one.model, one.function): one for one in bodies}
    found = {}
    for model in dict.fromkeys(one.model for one in bodies):
        own = [by_key[model, name] for name in names]
        for kind in ("parses", "empty"):
            found[model, kind] = np.array([float(one.outcome == kind) for one in own])
        found[model, "ended"] = np.array([float(one.ended) for one in own])
    return found
