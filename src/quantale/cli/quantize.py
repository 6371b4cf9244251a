"""`quantale quantize`: pack a model's weights."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from quantale.cli.arguments import check_method, check_models, folder_name
from quantale.cli.options import Debug, Json, Out, Resume, Seed, Sets
from quantale.cli.terminal import Terminal, pairs
from quantale.core.choices import Dtype
from quantale.core.errors import UsageError
from quantale.stages.requests import QuantizeRequest

if TYPE_CHECKING:
    from quantale.core.recipe_variants import RuleSection

_PRESET = re.compile(r"w(?P<bits>[0-9]+)(g(?P<group>[0-9]+))?")

Preset = Annotated[str | None, Option("--preset", help="w4g64: 4 bits, groups of 64; w8: rows.")]
Method = Annotated[str | None, Option("--method", help="How the weights of the blocks are chosen.")]
Rules = Annotated[
    Path | None,
    Option("--rules", metavar="FILE", help="YAML list of rules that come before the method."),
]
Bits = Annotated[int | None, Option("--bits", min=1, max=8, help="Bits of a weight.")]
GroupSize = Annotated[
    str | None, Option("--group-size", help="Weights that share a scale: a number, row or tensor.")
]
Symmetric = Annotated[bool | None, Option("--sym/--asym", help="Grid centred on zero, or not.")]
DescAct = Annotated[
    bool | None, Option("--desc-act", help="Most active columns first (act_order).")
]
Calibration = Annotated[
    str | None,
    Option("--calibration", metavar="D", help="Text that calibrates [default: the model's own]."),
]
Samples = Annotated[int, Option("--nsamples", min=1, help="Windows of that text.")]
Length = Annotated[
    int | None,
    Option("--seqlen", min=2, help="Tokens a window [default: the context, at most 2048]."),
]
EmbeddingBits = Annotated[
    int | None, Option("--embedding-bits", min=1, max=8, help="Pack the embedding too.")
]
EmbeddingMethod = Annotated[
    str | None, Option("--embedding-method", help="How the embedding is packed [default: rtn].")
]
HeadBits = Annotated[int | None, Option("--head-bits", min=1, max=8, help="Pack the head too.")]
HeadMethod = Annotated[
    str | None, Option("--head-method", help="How the head is packed [default: rtn].")
]
DtypeOption = Annotated[
    Dtype | None, Option("--dtype", help="Of what is not packed [default: as in the checkpoint].")
]


def quantize(
    model: Annotated[str, typer.Argument(help="Model directory or Hub name.")],
    method: Method = None,
    rules: Rules = None,
    preset: Preset = None,
    bits: Bits = None,
    group_size: GroupSize = None,
    symmetric: Symmetric = None,
    desc_act: DescAct = None,
    calibration: Calibration = None,
    samples: Samples = 64,
    length: Length = None,
    embedding_bits: EmbeddingBits = None,
    embedding_method: EmbeddingMethod = None,
    head_bits: HeadBits = None,
    head_method: HeadMethod = None,
    dtype: DtypeOption = None,
    sets: Sets = [],  # noqa: B006  typer's way to say "none given"
    out: Out = None,
    resume: Resume = False,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Quantize MODEL and save it, really packed, as a model directory."""
    check_choices(method, embedding_method, head_method, rules)
    given = {
        "bits": bits,
        "group_size": parse_group_size(group_size),
        "symmetric": symmetric,
        "act_order": desc_act,
    }
    settings = merge_settings(parse_preset(preset), given, sets)
    check_models([model])
    terminal = Terminal(as_json, debug)
    folder = out or Path("runs") / folder_name(model, *_marks(rules, method, settings))
    read = read_rules(rules)
    from quantale.stages.quantize import quantize_model

    request = QuantizeRequest(
        model,
        method,
        settings,
        rules=read,
        embedding_bits=embedding_bits,
        embedding_method=embedding_method,
        head_bits=head_bits,
        head_method=head_method,
        dtype=dtype,
        calibration=calibration,
        samples=samples,
        length=length,
        seed=seed,
    )
    with terminal.progress() as progress:
        result = quantize_model(request, folder, resume=resume, progress=progress)
    terminal.result(result, pairs(result))


def check_choices(
    method: str | None, embedding: str | None, head: str | None, rules: Path | None
) -> None:
    """Raise UsageError for methods that do not exist, or when nothing says what to do."""
    for name in (method, embedding, head):
        if name is not None:
            check_method(name)
    if method is None and rules is None:
        raise UsageError("nothing says how to quantize: give --method, --rules or both")


def read_rules(path: Path | None) -> "tuple[RuleSection, ...]":
    """Return the rules of a file, none without one; raises UsageError with file and line."""
    from quantale.core.recipe_file import load_rules

    return () if path is None else load_rules(path)


def parse_preset(preset: str | None) -> dict[str, Any]:
    """Read "w4g64" as 4 bits in groups of 64, "w8" as 8 bits a row."""
    if preset is None:
        return {}
    match = _PRESET.fullmatch(preset)
    if match is None:
        raise UsageError(f"preset {preset!r} should look like w4g64 or w8")
    group = match["group"]
    return {"bits": int(match["bits"]), "group_size": int(group) if group else "row"}


def parse_group_size(text: str | None) -> int | str | None:
    """Read a number, "row" or "tensor"."""
    if text is None or text in {"row", "tensor"}:
        return text
    if not text.isdecimal():
        raise UsageError(f"--group-size {text}: should be a number, row or tensor")
    return int(text)


def merge_settings(
    preset: dict[str, Any], given: dict[str, Any], sets: list[str]
) -> dict[str, Any]:
    """Join preset, options and --set; the same setting twice with two values is an error."""
    from quantale.core.recipe_file import parse_assignment

    settings = dict(preset)
    asked = [(key, value) for key, value in given.items() if value is not None]
    for key, value in [*asked, *map(parse_assignment, sets)]:
        if settings.setdefault(key, value) != value:
            raise UsageError(f"{key} is asked to be both {settings[key]!r} and {value!r}")
    return settings


def _marks(rules: Path | None, method: str | None, settings: dict[str, Any]) -> list[str]:
    bits, group = settings.get("bits"), settings.get("group_size")
    width = f"w{bits}" if bits is not None else ""
    grouping = f"g{group}" if isinstance(group, int) else str(group or "")
    return [word for word in (rules.stem if rules else "", method, width + grouping) if word]
