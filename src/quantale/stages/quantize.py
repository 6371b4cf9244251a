"""From a model to a quantized one: methods from settings, calibration, sealed model directory."""

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from quantale.core import files
from quantale.core import run as runs
from quantale.core.errors import OutputExistsError, UsageError, nearest
from quantale.core.progress import Progress
from quantale.core.recipe import VariantSection
from quantale.core.records import read_json
from quantale.core.registry import METHODS
from quantale.core.run import Run, RunKey
from quantale.data.load import load_documents
from quantale.models.load import local_folder
from quantale.quant.apply import Method
from quantale.quant.save import PROOF_DTYPE, verify_saves
from quantale.quant.whole import Methods
from quantale.quant.whole import quantize_model as quantize_in_place
from quantale.stages.quantized import CalibrationText, make_model
from quantale.stages.requests import QuantizeRequest

VERSION = 2


def make_method(name: str, settings: Mapping[str, Any]) -> Method:
    """Build a method; raises UsageError for a name or setting that does not exist."""
    kind = METHODS.get(name)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in settings:
        if key not in fields:
            hint = nearest(key, fields)
            raise UsageError(f"{name} has no setting {key!r}; it has {', '.join(fields)}{hint}")
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING]
    for key in missing:
        if key not in settings:
            raise UsageError(f"{name} needs {key}")
    method: Method = kind(**settings)
    return method


def make_methods(variant: VariantSection) -> Methods:
    """Return the methods of a variant; embeddings and heads take round-to-nearest or the same."""
    settings: dict[str, Any] = {
        "group_size": variant.group_size,
        "symmetric": variant.symmetric,
        **variant.settings,
    }
    if variant.bits is not None:
        settings["bits"] = variant.bits
    linear = make_method(variant.method, settings)
    ends = {key: settings[key] for key in ("group_size", "symmetric")}
    ends |= {key: settings[key] for key in ("scale_dtype",) if key in settings}
    embedding, head = (
        None if bits is None else make_method("rtn", {**ends, "bits": bits})
        for bits in (variant.embedding_bits, variant.head_bits)
    )
    return Methods(linear, embedding, head)


def quantize(
    model: tuple[Any, Any],
    method: Method | Methods,
    *,
    data: str | None = None,
    samples: int = 64,
    length: int | None = None,
    seed: int = 0,
) -> tuple[Any, Any]:
    """Return a quantized copy's (model, tokenizer); the given model stays as it is.

    method: for the linear layers of the blocks, or `Methods` to name embeddings and head too.
    data: what calibrates, in the grammar of `--data`. length: tokens a window, None for the
    model's context. Raises UsageError when the method needs data and none was given.
    """
    network, tokenizer = model[0], model[1]
    chosen = method if isinstance(method, Methods) else Methods(method)
    windows = None
    if data is not None and chosen.needs_calibration:
        documents = load_documents(data, split="train", seed=seed)
        text = CalibrationText(documents, samples, length, seed)
        windows = text.windows(network, tokenizer)
    quantized = copy.deepcopy(network)
    quantize_in_place(quantized, chosen, windows)
    return quantized, tokenizer


@dataclass(frozen=True)
class Source:
    """A model in full precision, and what its bytes are."""

    folder: Path
    digest: str


def quantize_model(
    request: QuantizeRequest, out: Path, *, resume: bool, progress: Progress
) -> dict[str, Any]:
    """Quantize a model directory into a sealed one and return the `--json` fields."""
    variant = _variant(request)
    text = None
    if make_methods(variant).needs_calibration:
        if request.calibration is None:
            raise UsageError(f"{request.method} needs calibration text: give --calibration D")
        documents = load_documents(request.calibration, split="train", seed=request.seed)
        text = CalibrationText(documents, request.samples, request.length, request.seed)
    if out.exists():
        raise OutputExistsError(f"{out}: exists already; choose another --out or remove it")
    source = source_of(request.model)
    run = quantize_stage(source, variant, text, out, resume=resume, progress=progress)
    summary: dict[str, Any] = read_json(run.path / "summary.json")
    timings = read_json(run.path / "timings.json")
    return {"out": str(run.path), **summary, **timings}


def source_of(model: str) -> Source:
    """Return a model directory (a Hub name is fetched first) with the digest of its files."""
    folder = local_folder(model)
    return Source(folder, files.digest_of([*sorted(folder.glob("*.safetensors"))]))


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
        digest = make_model(source.folder, methods, text, folder, progress)
        if verify:
            verify_saves({folder: digest}, PROOF_DTYPE)
    return runs.open_run(out)


def _key(source: Source, variant: VariantSection, text: CalibrationText | None) -> RunKey:
    settings = variant.model_dump(mode="json", exclude={"name"})
    parents = {"model": source.digest}
    if text is not None:
        settings["calibration"] = {
            "samples": text.samples,
            "length": text.length,
            "seed": text.seed,
        }
        parents["calibration"] = text.documents.sha256
    return RunKey("quantize", VERSION, settings, parents)


def _variant(request: QuantizeRequest) -> VariantSection:
    fields = ("bits", "group_size", "symmetric")
    known = {key: request.settings[key] for key in fields if key in request.settings}
    try:
        return VariantSection(
            name="model",
            method=request.method,
            embedding_bits=request.embedding_bits,
            head_bits=request.head_bits,
            settings={key: v for key, v in request.settings.items() if key not in known},
            **known,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"][:1])
        raise UsageError(f"{name}: {first['msg']}; {first['input']!r} came") from error
