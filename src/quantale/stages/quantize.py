"""From a model to a quantized one: methods from settings, calibration, sealed model directory."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from quantale.core import files
from quantale.core import run as runs
from quantale.core.errors import OutputExistsError, UsageError
from quantale.core.progress import Progress
from quantale.core.recipe_variants import VariantSection
from quantale.core.records import read_json
from quantale.core.run import Run, RunKey
from quantale.models.adapter_record import adapter_files, is_adapter
from quantale.models.load import local_folder
from quantale.quant.apply import Method
from quantale.quant.rules import Rule
from quantale.quant.save import PROOF_DTYPE, verify_saves
from quantale.quant.whole import Methods
from quantale.quant.whole import quantize_model as quantize_in_place
from quantale.stages.calibration import CalibrationText, calibration_text
from quantale.stages.quantized import Job, make_model
from quantale.stages.requests import QuantizeRequest
from quantale.stages.variants import make_methods

VERSION = 2


def quantize(
    model: tuple[Any, Any],
    method: Method | Methods | Sequence[Rule],
    *,
    data: str | None = None,
    samples: int = 64,
    length: int | None = None,
    seed: int = 0,
) -> tuple[Any, Any]:
    """Return a quantized copy's (model, tokenizer); the given model stays as it is.

    method: for the linear layers of the blocks; `Methods` names embeddings and head too, rules say
    it of any site. data: what calibrates, in the grammar of `--data`; None: the model writes text
    itself where a method calibrates. length: tokens a window, None for the context, 2,048 at most.
    """
    network, tokenizer = model[0], model[1]
    methods = _methods(method)
    windows = None
    if methods.needs_calibration:
        windows = calibration_text(data, samples, length, seed).windows(network, tokenizer)
    quantized = copy.deepcopy(network)
    quantize_in_place(quantized, methods, windows)
    return quantized, tokenizer


def _methods(method: Method | Methods | Sequence[Rule]) -> Methods:
    if isinstance(method, Methods):
        return method
    if isinstance(method, Sequence):
        return Methods(None, rules=tuple(method))
    return Methods(method)


@dataclass(frozen=True)
class Source:
    """A model in full precision, and what its bytes are."""

    folder: Path
    digest: str


def quantize_model(
    request: QuantizeRequest, out: Path, *, resume: bool, progress: Progress
) -> dict[str, Any]:
    """Quantize a model directory into a sealed one and return the `--json` fields."""
    variant = variant_of(request)
    text = None
    if make_methods(variant).needs_calibration:
        text = calibration_text(request.calibration, request.samples, request.length, request.seed)
    if out.exists():
        raise OutputExistsError(f"{out}: exists already; choose another --out or remove it")
    source = source_of(request.model)
    run = quantize_stage(source, variant, text, out, resume=resume, progress=progress)
    summary: dict[str, Any] = read_json(run.path / "summary.json")
    timings = read_json(run.path / "timings.json")
    return {"out": str(run.path), **summary, **timings}


def source_of(model: str) -> Source:
    """Return a model directory or file (a Hub name is fetched first) with its weights' digest."""
    folder = local_folder(model)
    if folder.is_file():
        return Source(folder, files.digest_of([folder]))
    if is_adapter(folder):
        return Source(folder, files.digest_of(adapter_files(folder)))
    weights = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.gguf"))]
    return Source(folder, files.digest_of(weights))


def quantize_stage(
    source: Source,
    variant: VariantSection,
    text: CalibrationText | None,
    out: Path,
    *,
    resume: bool,
    progress: Progress,
    verify: bool = True,
) -> Run:
    """Make the sealed model directory of a variant, or return it when it is there already.

    `verify`: load it in a fresh process before it is sealed; a pipeline verifies all at once.
    """
    methods = make_methods(variant)
    text = text if methods.needs_calibration else None
    key = _key(source, variant, text)
    done = runs.sealed(out, key)
    if done is not None:
        progress.note(f"{out} is there already: skipped")
        return done
    with runs.making(out, key, resume=resume) as folder:
        dtype = None if variant.dtype is None else getattr(torch, variant.dtype)
        digest = make_model(source.folder, Job(methods, text, dtype), folder, progress)
        if verify:
            verify_saves({folder: digest}, PROOF_DTYPE)
    return runs.open_run(out)


def _key(source: Source, variant: VariantSection, text: CalibrationText | None) -> RunKey:
    settings = variant.model_dump(mode="json", exclude={"name", "start", "group", "tune"})
    parents = {"model": source.digest}
    if text is not None:
        settings["calibration"] = text.key
        parents |= text.parents
    return RunKey("quantize", VERSION, settings, parents)


def variant_of(request: QuantizeRequest) -> VariantSection:
    """Return the section of a recipe that asks for the same; raises UsageError."""
    fields = ("bits", "group_size", "symmetric")
    known = {key: request.settings[key] for key in fields if key in request.settings}
    try:
        return VariantSection(
            name="model",
            method=request.method,
            rules=request.rules,
            embedding_bits=request.embedding_bits,
            embedding_method=request.embedding_method,
            head_bits=request.head_bits,
            head_method=request.head_method,
            dtype=request.dtype,
            settings={key: v for key, v in request.settings.items() if key not in known},
            **known,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "recipe_rule":
            raise UsageError(f"{first['ctx']['field']} {first['msg']}") from error
        name = ".".join(str(part) for part in first["loc"][:1])
        raise UsageError(f"{name}: {first['msg']}; {first['input']!r} came") from error
