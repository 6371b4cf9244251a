"""A whole recipe: a loop over stages that skips what is sealed already.

No stage calls a later one; each reads the sealed runs of its parents.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from quantale.core import files, processes
from quantale.core import run as runs
from quantale.core.errors import OutputExistsError, UsageError, nearest
from quantale.core.progress import Progress
from quantale.core.recipe import Recipe
from quantale.core.recipe_file import ResolvedRecipe, dump
from quantale.core.recipe_variants import BASE, PRETRAINED, SCRATCH, VariantSection, of_group
from quantale.core.records import read_json, write_json
from quantale.core.run import Run, RunKey
from quantale.data.load import load_documents
from quantale.evaluation.language import LanguageSettings
from quantale.evaluation.stats import Bootstrap
from quantale.evaluation.stories.prompts import draft
from quantale.evaluation.windows import protocol_named
from quantale.quant.save import PROOF_DTYPE, verify_saves
from quantale.stages.asked import command_of
from quantale.stages.bench import bench_stage
from quantale.stages.classify import classify_stage, classifying
from quantale.stages.code import CodePlan, code_stage
from quantale.stages.compare import compare_stage
from quantale.stages.corpus import Corpus, first_documents, open_corpus
from quantale.stages.evaluate import Plan, evaluate_stage
from quantale.stages.plan import predict
from quantale.stages.plan_kept import keep_measured, keep_prediction
from quantale.stages.quantize import Source, source_of
from quantale.stages.scratch import scratch_stage
from quantale.stages.stories import stories_stage
from quantale.stages.story_writer import StoryPlan, asking_of
from quantale.stages.train import set_threads, train_stage
from quantale.stages.trees import TreeWriter, write_tree
from quantale.stages.tune import check_methods
from quantale.stages.workshop import Made, Workshop, open_variant

STAGES = (
    "train",
    "quantize",
    "tune",
    "verify",
    "evaluate",
    "seeds",
    "stories",
    "code",
    "bench",
    "compare",
    "outputs",
)
SEEDED = ("train", "quantize", "tune", "verify", "evaluate")
"""Stages that are run again for every further training seed."""
OPTIONAL = ("train", "stories", "code", "bench")
"""Stages that a recipe can leave out, each with a section of its name."""


@dataclass(frozen=True)
class PipelineResult:
    """What a finished experiment leaves behind."""

    report: Path
    """The page, or the folder of the last stage that ran."""
    summary: dict[str, Any]
    """Verdicts, and under `plan` what was predicted and measured, a stage a row."""


def run_recipe(
    resolved: ResolvedRecipe, out: Path, *, only: str | None, resume: bool, progress: Progress
) -> PipelineResult:
    """Run a recipe into `out`; stages that are sealed with the same key are skipped.

    only: run this stage alone, from the sealed runs before it; or all stages for a group of
    variants alone. Raises UsageError for a stage or group that does not exist, and for a stage
    whose parents are missing.
    """
    processes.refuse_several("quantale run")
    groups = resolved.recipe.groups
    if only is not None and only not in (*STAGES, *groups):
        raise UsageError(
            f"no stage {only!r}; there are {', '.join(STAGES)} and the groups {', '.join(groups)}"
            f"{nearest(only, (*STAGES, *groups))}"
        )
    job = _prepared(resolved, out, resume, progress)
    is_whole = only is None
    if only in groups:
        job.group, only = only, None
    if is_whole:
        progress.stage("plan")
        keep_prediction(job.recipe, out)
    for stage in STAGES:
        if only is None or stage == only:
            job.steps[stage]()
        else:
            job.recall(stage, needed=STAGES.index(stage) < STAGES.index(only))
        if stage == only:
            break
    result = job.result(only)
    if is_whole:
        result.summary["plan"] = keep_measured(out)
    return result


def _prepared(resolved: ResolvedRecipe, out: Path, resume: bool, progress: Progress) -> "_Job":
    """Check everything that can be checked before a minute is spent, then open the folder."""
    recipe = resolved.recipe
    set_threads(recipe)
    check_methods(recipe)
    protocol_named(recipe.evaluate.protocol)
    corpus = open_corpus(recipe)
    _check_writing(recipe, corpus)
    text = dump(recipe)
    known = out / "recipe.yaml"
    if known.exists() and known.read_text() != text:
        raise OutputExistsError(f"{out}: holds another recipe; choose another --out or remove it")
    out.mkdir(parents=True, exist_ok=True)
    if not known.exists():
        files.write_atomic(known, text)
    return _Job(resolved, corpus, out, resume, progress)


def _check_writing(recipe: Recipe, corpus: Corpus) -> None:
    """Raise DataError now for what the last stages would miss: fields of a template, functions."""
    if recipe.stories is not None:
        first = corpus.answers().test.items[0]
        draft(first.id, first.text, first.fields, asking_of(recipe.stories, recipe.data))
    if recipe.code is not None:
        load_documents(recipe.code.data, split="test", limit=1, seed=recipe.seed)


@dataclass
class _Job:
    """The runs of one experiment, as far as they are made."""

    resolved: ResolvedRecipe
    corpus: Corpus
    out: Path
    resume: bool
    progress: Progress
    group: str | None = None
    """Only the variants of this group are made."""
    runs: dict[str, Run] = field(default_factory=dict)
    variants: dict[str, Made] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The recipe, with the variants of the group alone if there is one."""
        recipe = self.resolved.recipe
        if self.group is None:
            return recipe
        return recipe.model_copy(update={"variants": of_group(recipe.variants, self.group)})

    @property
    def judged(self) -> Path:
        """Where the runs lie that compare models: a group has a folder of its own."""
        return self.out if self.group is None else self.out / "groups" / self.group

    @property
    def steps(self) -> dict[str, Callable[[], None]]:
        """The function of every stage."""
        return {
            "train": self.train,
            "quantize": self.quantize,
            "tune": self.tune,
            "verify": self.verify,
            "evaluate": self.evaluate,
            "seeds": self.seeds,
            "stories": self.stories,
            "code": self.code,
            "bench": self.bench,
            "compare": self.compare,
            "outputs": self.outputs,
        }

    def recall(self, stage: str, *, needed: bool) -> None:
        """Open the runs of a stage that is not run now."""
        if not needed or (stage in OPTIONAL and getattr(self.recipe, stage) is None):
            return
        if stage in ("quantize", "tune"):
            for variant in self._made_in(stage):
                self.variants[variant.name] = open_variant(self.out, variant)
            return
        if stage == "seeds":
            for name, job in self._seeded():
                job.recall("evaluate", needed=True)
                self.runs[name] = job.runs["evaluate"]
            return
        path = self.judged / stage if stage != "train" else self.out / stage
        if path.exists():
            self.runs[stage] = runs.open_run(path)
        elif stage not in ("stories", "code", "bench"):
            raise UsageError(f"{path} is missing; run the stage {stage} first")

    def train(self) -> None:
        """Train the base, unless it is a pretrained model used as it is."""
        if self.recipe.train is not None:
            self.runs["train"] = train_stage(
                self.recipe,
                self.corpus,
                self.out / "train",
                resume=self.resume,
                progress=self.progress,
            )

    def source(self) -> Source:
        """Return the model in full precision."""
        trained = self.runs.get("train")
        if trained is not None:
            return Source(trained.path / "model", trained.digest)
        return source_of(str(self.recipe.model.path))

    def quantize(self) -> None:
        """Make every variant that needs no training of its own."""
        self._make("quantize")

    def tune(self) -> None:
        """Make the others, each after what it starts from."""
        self._make("tune")

    def _make(self, stage: str) -> None:
        workshop = Workshop(self.recipe, self.corpus, self.out, self.resume, self.progress)
        starts = self._starts()
        for variant in self._made_in(stage):
            start = {**starts, **{n: made.source for n, made in self.variants.items()}}
            self.variants[variant.name] = workshop.make(variant, start)

    def _made_in(self, stage: str) -> list[VariantSection]:
        tuned: set[str] = set()
        for variant in self.recipe.variants:
            if variant.tune is not None or variant.start in tuned:
                tuned.add(variant.name)
        return [v for v in self.recipe.variants if (v.name in tuned) == (stage == "tune")]

    def _starts(self) -> dict[str, Source]:
        """Return the models that are there before any variant."""
        found = {BASE: self.source()}
        if self.recipe.model.kind == "pretrained":
            found[PRETRAINED] = source_of(str(self.recipe.model.path))
        if any(variant.start == SCRATCH for variant in self.recipe.variants):
            run = scratch_stage(self.recipe, self.corpus, self.out / SCRATCH, resume=self.resume)
            found[SCRATCH] = Source(run.path / "model", run.digest)
        return found

    def verify(self) -> None:
        """Load every variant in one fresh process and compare its logits, bit for bit."""
        parents = {name: made.source.digest for name, made in self._ordered().items()}
        path = self.judged / "verify"
        key = RunKey("verify", 1, {}, parents)
        done = runs.sealed(path, key)
        if done is None:
            self.progress.stage("verify")
            with runs.making(path, key, resume=self.resume) as folder:
                expected = {made.source.folder: made.proof for made in self.variants.values()}
                if expected:
                    verify_saves(expected, PROOF_DTYPE)
                write_json(folder / "verified.json", dict.fromkeys(parents, True))
            done = runs.open_run(path)
        self.runs["verify"] = done

    def folders(self) -> dict[str, Path]:
        """Return the model folders by name, the base first."""
        made = {name: one.source.folder for name, one in self._ordered().items()}
        return {BASE: self.source().folder, **made}

    def digests(self) -> dict[str, str]:
        """Return what every model folder holds."""
        made = {name: one.source.digest for name, one in self._ordered().items()}
        return {BASE: self.source().digest, **made}

    def _ordered(self) -> dict[str, Made]:
        """Return the variants in the recipe's order."""
        return {v.name: self.variants[v.name] for v in self.recipe.variants}

    def evaluate(self) -> None:
        """Score all models on the same documents."""
        section = self.recipe.evaluate
        documents = first_documents(self.corpus.test, section.documents)
        if section.classification is not None:
            self.runs["evaluate"] = classify_stage(
                classifying(self.recipe, self.folders(), self.digests(), documents),
                self.judged / "evaluate",
                resume=self.resume,
                progress=self.progress,
            )
            return
        settings = LanguageSettings(protocol=section.protocol, batch_size=section.batch_size)
        plan = Plan(self.folders(), self.digests(), BASE, documents, settings, self.recipe.seed)
        self.runs["evaluate"] = evaluate_stage(
            plan, self.judged / "evaluate", resume=self.resume, progress=self.progress
        )

    def seeds(self) -> None:
        """Make and score everything again with further training seeds, on the same documents."""
        for name, job in self._seeded():
            self.progress.note(f"{name}: everything again with this training seed")
            for stage in SEEDED:
                job.steps[stage]()
            self.runs[name] = job.runs["evaluate"]

    def _seeded(self) -> Iterator[tuple[str, "_Job"]]:
        """Yield a job for every further seed, under the name of its folder."""
        for seed in self.recipe.seeds:
            recipe = self.resolved.recipe.model_copy(update={"seed": seed})
            name, resolved = f"seeds/{seed}", replace(self.resolved, recipe=recipe)
            yield name, replace(self, resolved=resolved, out=self.out / name, runs={}, variants={})

    def stories(self) -> None:
        """Let all models write behind the beginnings of unseen stories."""
        if self.recipe.stories is not None:
            compare, corpus = self.recipe.compare, self.corpus.answers()
            template = asking_of(self.recipe.stories, self.recipe.data).template
            plan = StoryPlan(
                self.folders(),
                self.digests(),
                BASE,
                corpus.test,
                corpus.train,
                self.recipe.stories.model_copy(update={"template": template}),
                Bootstrap(compare.resamples, compare.seed),
            )
            self.runs["stories"] = stories_stage(
                plan, self.judged / "stories", resume=self.resume, progress=self.progress
            )

    def code(self) -> None:
        """Score and write functions."""
        if self.recipe.code is not None:
            plan = CodePlan(
                self.folders(),
                self.digests(),
                BASE,
                load_documents(self.recipe.code.data, split="test", seed=self.recipe.seed),
                self.recipe.code,
                Bootstrap(self.recipe.compare.resamples, self.recipe.compare.seed),
            )
            self.runs["code"] = code_stage(
                plan, self.judged / "code", resume=self.resume, progress=self.progress
            )

    def bench(self) -> None:
        """Time all models, each in processes of its own."""
        if self.recipe.bench is not None:
            self.runs["bench"] = bench_stage(
                self.folders(),
                self.digests(),
                self.recipe.bench,
                self.judged / "bench",
                resume=self.resume,
                progress=self.progress,
            )

    def compare(self) -> None:
        """Judge and write the page."""
        self.runs["compare"] = compare_stage(
            self.recipe,
            self.folders(),
            {**self.runs, **self._trainings()},
            self.judged / "compare",
            resume=self.resume,
            progress=self.progress,
            command=command_of(self.resolved, self.group),
        )

    def _trainings(self) -> dict[str, Run]:
        """Return the trainings of variants, as "tune/NAME"."""
        tuned = (f"tune/{v.name}" for v in self.recipe.variants if v.tune is not None)
        return {name: runs.open_run(self.out / name) for name in tuned}

    def outputs(self) -> None:
        """Write the folders of files that the recipe names."""
        for section in self.recipe.outputs:
            if self.group in (None, section.group):
                writer = TreeWriter(self.recipe, self.folders(), self.runs)
                write_tree(section, writer, self.out / section.folder, self.progress)

    def result(self, only: str | None) -> PipelineResult:
        """Return the page, or with `only` the folder of that stage."""
        if only not in (None, "compare", "outputs"):
            return PipelineResult(self.out / str(only), {"stages": sorted(self.runs)})
        verdicts = read_json(self.judged / "compare" / "verdicts.json")
        pairs = {pair["other"]: pair["verdict"] for pair in verdicts["pairs"]}
        return PipelineResult(
            self.judged / "compare" / "report.html",
            {"verdict": verdicts["verdict"], "verdicts": pairs},
        )


def plan_recipe(resolved: ResolvedRecipe, memory: int | None) -> dict[str, Any]:
    """Predict what a recipe needs, in so many bytes of memory; see `stages/plan.py`."""
    check_methods(resolved.recipe)
    return predict(resolved.recipe, memory=memory)
