"""From measurements to a verdict and the page."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from quantale.core import files, provenance
from quantale.core import run as runs
from quantale.core.progress import Progress
from quantale.core.recipe import Recipe
from quantale.core.records import read_json, read_lines, write_json
from quantale.core.run import Run, RunKey
from quantale.data.load import load_documents
from quantale.evaluation.language import LanguageSettings
from quantale.evaluation.scores import by_model, read_scores
from quantale.evaluation.stats import Bootstrap
from quantale.models.load import load
from quantale.quant.ledger import SiteLine, inspect
from quantale.report.compare import compare_groups, compare_scored, tied_models
from quantale.report.groups import seed_groups
from quantale.report.model import (
    Estimate,
    ReportData,
    Site,
    TrainPoint,
    Tuning,
    VariantRow,
    Written,
)
from quantale.report.page import build_report
from quantale.report.scored import read_scored
from quantale.stages.classes import classifications, judged_classifiers
from quantale.stages.evaluate import Plan, evaluate_stage, named
from quantale.stages.quantize import source_of
from quantale.stages.requests import CompareRequest
from quantale.stages.samples import write_samples
from quantale.stages.swept import seeds_in_words, swept
from quantale.stages.voted import voted_on, votes_beside

VERSION = 3


def compare_stage(
    recipe: Recipe,
    folders: Mapping[str, Path],
    parents: Mapping[str, Run],
    out: Path,
    *,
    resume: bool,
    progress: Progress,
    command: str,
) -> Run:
    """Judge every variant and write the page; returns the run that is there already if any.

    folders: model folders by name, the base first. parents: runs by stage ("evaluate", and
    where they exist "train", "bench", "verify", those of tuned variants as "tune/NAME",
    evaluations of further training seeds as "seeds/SEED"). Blind votes are shown too when they lie
    beside `out`, in votes.jsonl.
    """
    settings = recipe.model_dump(mode="json", include={"name", "compare", "report"})
    ballots = votes_beside(out)
    origins = {name: run.digest for name, run in parents.items()}
    if ballots is not None:
        origins["votes"] = files.sha256_of(ballots)
    key = RunKey("compare", VERSION, settings, origins)
    done = runs.sealed(out, key)
    if done is not None:
        progress.note(f"{out} is there already: skipped")
        return done
    with runs.making(out, key, resume=resume) as folder:
        samples = write_samples(folders, recipe.report, progress)
        write_json(folder / "samples.json", samples)
        base = next(iter(folders))
        verdicts = _verdicts(recipe, base, _evaluations(recipe, parents))
        write_json(folder / "verdicts.json", verdicts)
        rows = _Rows(recipe, folders, parents, verdicts, samples)
        voted = () if ballots is None else voted_on(ballots, folders)
        build_report(replace(rows.report(base, command), votes=voted), folder)
    return runs.open_run(out)


def _evaluations(recipe: Recipe, parents: Mapping[str, Run]) -> dict[int, Path]:
    """Return the evaluation of every training seed, the recipe's own first."""
    further = {seed: parents[f"seeds/{seed}"].path for seed in recipe.seeds}
    return {recipe.seed: parents["evaluate"].path, **further}


def _verdicts(recipe: Recipe, base: str, evaluations: Mapping[int, Path]) -> dict[str, Any]:
    how = Bootstrap(recipe.compare.resamples, recipe.compare.seed)
    if recipe.evaluate.classification is not None:
        evaluated = next(iter(evaluations.values()))
        return judged_classifiers(recipe.compare.accuracy_margin, base, evaluated, how)
    groups = seed_groups({seed: read_scored(path) for seed, path in evaluations.items()})
    others = [group for name, group in groups.items() if name != base]
    judged: dict[str, Any] = {"verdict": "PASS", "pairs": [], "bits_per_byte": [], "ties": []}
    if others:
        judged |= compare_groups(groups[base], others, recipe.compare.margin, how)
        paired = compare_groups(groups[base], others, 0.0, how, metric="bits_per_byte")
        judged["bits_per_byte"] = paired["pairs"]
        firsts = [group.runs[0] for group in groups.values()]
        judged["ties"] = [list(pair) for pair in tied_models(firsts, how)]
    return judged


class _Rows:
    """Gathers what the sealed runs know of every model."""

    def __init__(
        self,
        recipe: Recipe,
        folders: Mapping[str, Path],
        parents: Mapping[str, Run],
        verdicts: Mapping[str, Any],
        samples: Mapping[str, list[str]],
    ) -> None:
        self._recipe, self._folders, self._parents = recipe, folders, parents
        self._verdicts, self._samples = verdicts, samples
        evaluated = parents["evaluate"].path
        lines = read_lines(evaluated / "results.jsonl")
        if "bench" in parents:
            lines += read_lines(parents["bench"].path / "results.jsonl")
        self._numbers = {(line["model"], line["metric"]): line for line in lines}
        scores = read_lines(evaluated / "documents.jsonl") if self._is_language() else []
        self._documents = by_model(read_scores(scores))
        self._errors = read_json(evaluated / "errors.json")
        self._protocol = read_json(evaluated / "protocol.json")
        self._classifications = classifications(evaluated, verdicts)

    def report(self, base: str, command: str) -> ReportData:
        """Return everything that the page shows."""
        protocol = dict(self._protocol)
        if "bench" in self._parents:
            protocol["latency"] = self._numbers[base, "decode_ms_per_token"]["protocol"]
        if "train" in self._parents:
            protocol["training"] = _cost(read_json(self._parents["train"].path / "cost.json"))
        if self._recipe.seeds:
            protocol["training seeds"] = seeds_in_words(self._recipe)
        return ReportData(
            title=self._recipe.name,
            description=self._recipe.description,
            base=base,
            variants=tuple(self._row(name, base) for name in self._folders),
            margin=self._margin(),
            training=self._training(),
            training_seeds=1 + len(self._recipe.seeds),
            best_step=self._summary("train").get("best_step"),
            prompts=self._recipe.report.prompts,
            ties=tuple((one, other) for one, other in self._verdicts["ties"]),
            protocol=protocol,
            environment=_environment(),
            command=command,
            warnings=self._warnings(),
            sweeps=swept(self._recipe),
            written={kind: _written(self._parents.get(kind)) for kind in ("stories", "code")},
        )

    def _margin(self) -> float:
        section = self._recipe.compare
        return section.margin if self._is_language() else section.accuracy_margin

    def _is_language(self) -> bool:
        return self._recipe.evaluate.classification is None

    def _row(self, name: str, base: str) -> VariantRow:
        folder = self._folders[name]
        ledger = inspect(load(folder, dtype=None).model, folder)
        variant = next((v for v in self._recipe.variants if v.name == name), None)
        speed = self._numbers.get((name, "decode_ms_per_token"))
        peak = self._numbers.get((name, "peak_rss_bytes"))
        pair = self._pair("pairs", name)
        return VariantRow(
            name=name,
            method="none" if variant is None else variant.method or "rules",
            bytes_on_disk=ledger.bytes_on_disk or 0,
            bits=None if variant is None else variant.bits,
            group_size=None if variant is None else variant.group_size,
            bytes_resident=ledger.bytes_resident,
            bits_per_weight=ledger.bits_per_weight,
            bits_per_weight_all=ledger.bits_per_weight_all,
            parameters=ledger.parameters,
            components=ledger.components,
            sites=tuple(_site(line) for line in ledger.sites),
            documents=self._changes(name, base),
            bits_per_byte=self._estimate(name, "bits_per_byte"),
            perplexity=self._estimate(name, "perplexity"),
            delta_bits_per_byte=_delta(self._pair("bits_per_byte", name)),
            kl_mean=None if name == base else self._estimate(name, "kl_mean"),
            top1=None if name == base else self._estimate(name, "top1_agreement"),
            verdict=pair.get("verdict"),
            p_holm=pair.get("p_holm"),
            n_to_tell=pair.get("n_that_would_tell"),
            ms_per_token=self._estimate(name, "decode_ms_per_token"),
            ms_per_token_p90=None if speed is None else speed["extra"]["p90"],
            peak_memory_bytes=None if peak is None else int(peak["value"]),
            kernel="torch" if speed is None else speed["kernel"],
            layer_errors=tuple((site, e**0.5) for site, e in self._errors.get(name, {}).items()),
            verified=self._verified(name, base),
            samples=tuple(self._samples.get(name, ())),
            quantize_seconds=_seconds(folder),
            tuning=_tuning(self._parents.get("train" if name == base else f"tune/{name}")),
            classification=self._classifications.get(name),
        )

    def _changes(self, name: str, base: str) -> tuple[tuple[float, float], ...]:
        """Return bits per byte of the base and what the variant adds to them, by document."""
        if name == base or not self._documents:
            return ()
        pairs = zip(self._documents[base], self._documents[name], strict=True)
        bits = [(a.nll / a.bytes / math.log(2), b.nll / b.bytes / math.log(2)) for a, b in pairs]
        return tuple((first, second - first) for first, second in bits)

    def _estimate(self, name: str, metric: str) -> Estimate | None:
        line = self._numbers.get((name, metric))
        if line is None:
            return None
        return Estimate(line["value"], line["ci_low"], line["ci_high"], line["n"])

    def _pair(self, table: str, name: str) -> Mapping[str, Any]:
        found = (pair for pair in self._verdicts[table] if pair["other"] == name)
        return next(found, {})

    def _verified(self, name: str, base: str) -> bool | None:
        if "verify" not in self._parents or name == base:
            return None
        return bool(read_json(self._parents["verify"].path / "verified.json").get(name))

    def _summary(self, stage: str) -> Mapping[str, Any]:
        run = self._parents.get(stage)
        return {} if run is None else read_json(run.path / "summary.json")

    def _training(self) -> tuple[TrainPoint, ...]:
        run = self._parents.get("train")
        if run is None:
            return ()
        lines = read_lines(run.path / "metrics.jsonl")
        return tuple(TrainPoint(line["step"], line["split"], line["loss"]) for line in lines)

    def _warnings(self) -> tuple[str, ...]:
        found = []
        if self._protocol.get("unknown_tokens"):
            found.append(
                f"{self._protocol['unknown_tokens']} of {self._protocol['tokens']} scored tokens "
                "are the tokenizer's unknown symbol"
            )
        if self._protocol.get("skipped_documents"):
            found.append(f"{self._protocol['skipped_documents']} empty documents were left out")
        return tuple(found)


def _site(line: SiteLine) -> Site:
    """Return a weight of the ledger as the page shows it."""
    return Site(
        line.name,
        line.role,
        line.shape,
        line.method,
        line.format,
        line.bits_per_weight,
        line.nbytes,
        line.fast_kernel,
    )


def _cost(cost: Mapping[str, Any]) -> dict[str, str]:
    """Return what a training took, as the page tells it."""
    found = {
        "training time": f"{cost['seconds']:.0f} s",
        "training tokens": f"{cost['tokens']:,}",
        "training speed": f"{cost['tokens_per_second']:,.0f} tokens a second",
        "training peak memory": f"{cost['peak_rss_bytes'] / 1e6:,.0f} MB",
    }
    if cost["joules"] is not None:
        found["training energy, processor"] = f"{cost['joules']:,.0f} J"
    return found


def _tuning(run: Run | None) -> Tuning | None:
    """Return what a training took, None without one."""
    if run is None:
        return None
    cost, summary = (read_json(run.path / name) for name in ("cost.json", "summary.json"))
    return Tuning(
        seconds=cost["seconds"],
        tokens=cost["tokens"],
        peak_memory_bytes=cost["device_peak_bytes"] or cost["peak_rss_bytes"],
        trainable_parameters=summary["trainable_parameters"],
        parameters=summary["parameters"],
    )


def _written(run: Run | None) -> Written:
    if run is None:
        return Written()
    lines = tuple(read_lines(run.path / "results.jsonl"))
    return Written(lines, read_json(run.path / "summary.json"))


def _delta(pair: Mapping[str, Any]) -> Estimate | None:
    if not pair:
        return None
    return Estimate(pair["delta"], pair["ci_low"], pair["ci_high"], pair["n"])


def _seconds(folder: Path) -> float | None:
    path = folder / "timings.json"
    return float(read_json(path)["seconds"]) if path.is_file() else None


def _environment() -> dict[str, Any]:
    found = dict(provenance.collect())
    packages = found.pop("packages")
    return {**found, **{name: version for name, version in packages.items() if version}}


def compare_models(request: CompareRequest, out: Path | None, progress: Progress) -> dict[str, Any]:
    """Score models on the same documents and judge them; returns `verdict` and `pairs`."""
    seed = request.seed
    documents = load_documents(request.data, split="test", seed=seed)
    names = named([request.base, *request.others])
    folders = {name: Path(path) for name, path in names.items()}
    digests = {name: source_of(path).digest for name, path in names.items()}
    first = next(iter(names))
    plan = Plan(folders, digests, first, documents, LanguageSettings(), seed)
    with tempfile.TemporaryDirectory(prefix="quantale-") as temporary:
        target = out or Path(temporary) / "compare"
        run = evaluate_stage(plan, target, resume=False, progress=progress)
        scored = {one.model: one for one in read_scored(run.path)}
    rest = [scored[name] for name in names if name != first]
    how = Bootstrap(seed=seed)
    return compare_scored(scored[first], rest, request.margin, how, metric=request.metric)
