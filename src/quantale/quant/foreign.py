"""From an artefact of others to a model of ours: packed where its grid is one of our formats.

A reader says what the configuration is, which weights are packed, which are plain numbers. Here
they become a transformers model with `QuantLinear` and `QuantEmbedding` in it, after every tensor
was found to have the name and the shape that the configuration describes.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantale.core.errors import ModelFileError, QuantaleError, UsageError
from quantale.models import gate
from quantale.models.checkpoint import Checkpoint
from quantale.models.foreign import Foreign
from quantale.models.load import LOADING_ERRORS, check_finite, first_line, load_tokenizer
from quantale.models.skeleton import empty_model
from quantale.quant.apply import install
from quantale.quant.hf import mark_quantized, names_in_memory
from quantale.quant.linear import PackedModule, QuantLinear
from quantale.quant.packed import PackedTensor
from quantale.quant.sites import Site, list_sites
from quantale.quant.stored import StoredSite
from quantale.quant.sub_norm import SubNorm


@dataclass
class Contents:
    """What an artefact holds, in our terms."""

    method: str
    """Name that the ledger gives the packed sites."""
    config: Any
    """Configuration of the plain model."""
    packed: dict[str, PackedTensor] = field(default_factory=dict)
    """By module."""
    plain: dict[str, Tensor] = field(default_factory=dict)
    """By parameter, in the layout of transformers."""
    turned: list[str] = field(default_factory=list)
    """Modules whose plain weight is (out, in), whatever kind the module is."""
    norms: dict[str, SubNorm] = field(default_factory=dict)
    """Norms of the inputs of packed layers, by module."""
    unpacked: dict[str, str] = field(default_factory=dict)
    """Why a quantized weight could not stay packed, by module."""

    def put(self, name: str, weight: Tensor) -> None:
        """Keep an (out, in) float32 weight as plain numbers of a module."""
        self.plain[f"{name}.weight"] = weight
        self.turned.append(name)

    def note(self) -> str:
        """Say how the weights were taken over."""
        parts = [f"{self.method}: {len(self.packed)} weights stay packed as they are"]
        reasons: dict[str, int] = {}
        for reason in self.unpacked.values():
            reasons[reason] = reasons.get(reason, 0) + 1
        parts += [f"{n} were turned into plain numbers ({why})" for why, n in reasons.items()]
        return ", ".join(parts)


def open_folder(source: Path) -> tuple[Any, dict[str, Any], Checkpoint]:
    """Return configuration, quantization section and tensors of a folder that passed the gate."""
    from transformers import AutoConfig

    gate.check_folder(source)
    section = gate.read_json_object(source / "config.json")["quantization_config"]
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    except LOADING_ERRORS as error:
        raise ModelFileError(f"{source / 'config.json'}: {first_line(error)}") from error
    del config.quantization_config
    return config, section, Checkpoint(gate.weight_files(source))


def build(contents: Contents, source: Path, dtype: torch.dtype | None) -> PreTrainedModel:
    """Return the model of an artefact; raises ModelFileError where tensors do not fit."""
    try:
        model = empty_model(contents.config)
        plain = _as_in(model, contents)
        _check(model, contents, plain, source)
        sites = {site.name: site for site in list_sites(model)}
        own = contents.config.dtype
        wanted = dtype or (own if isinstance(own, torch.dtype) else torch.float32)
        stored = [
            _install(model, sites[name], packed, contents)
            for name, packed in contents.packed.items()
        ]
        state = {name: tensor.to(wanted) for name, tensor in plain.items()}
        model.load_state_dict(state, strict=False, assign=True)
        model.tie_weights()
    except KeyError as error:
        raise ModelFileError(f"{source}: {error} is no weight that can be packed") from error
    except (*LOADING_ERRORS, UsageError) as error:
        raise ModelFileError(f"{source}: {first_line(error)}") from error
    _settle(model, wanted)
    if stored:
        mark_quantized(model, stored)
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=False)
    check_finite(model, source)
    return model.eval()


def loaded(contents: Contents, source: Path, dtype: torch.dtype | None) -> Foreign:
    """Return model, tokenizer and note of a folder's artefact."""
    model = build(contents, source, dtype)
    return Foreign(model, load_tokenizer(source), contents.note())


def attempt(contents: Contents, name: str, pack: Callable[[], PackedTensor | str]) -> bool:
    """Pack one weight, or note why it stays plain; says whether it was packed."""
    found = pack()
    if isinstance(found, str):
        contents.unpacked[name] = found
        return False
    contents.packed[name] = found
    return True


def shapes_of(config: Any) -> dict[str, tuple[int, int]]:
    """Return the (out, in) shapes of everything that can be packed, by module."""
    sites = list_sites(empty_model(config))
    return {site.name: site.shape for site in sites if site.role != "norm"}


def modules_with(
    tensors: Checkpoint, part: str, shapes: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    """Return the modules that have a tensor of that last name, and their (out, in) shapes."""
    ends = f".{part}"
    return {
        owner: shape_in(shapes, owner)
        for owner in (name.removesuffix(ends) for name in tensors if name.endswith(ends))
    }


def shape_in(shapes: Mapping[str, tuple[int, int]], name: str) -> tuple[int, int]:
    """Return the shape of a module's weight; raises ModelFileError where it has none."""
    if name not in shapes:
        raise ModelFileError(f"{name} is no weight of this model")
    return shapes[name]


def keep_plain(
    contents: Contents, tensors: Checkpoint, quantized: Iterable[str], parts: Iterable[str]
) -> None:
    """Take all tensors over as they are that are no part of a quantized module."""
    last = tuple(parts)
    used = {f"{name}.{part}" for name in quantized for part in last}
    contents.plain |= {name: tensors.read(name) for name in tensors if name not in used}


def file_sizes(source: Path, parts: Mapping[str, str]) -> dict[str, int]:
    """Return the stored bytes of a folder's tensors under our names.

    parts: what the last words of a stored name are called here.
    """
    longest = sorted(parts, key=len, reverse=True)
    found: dict[str, int] = {}
    for path in gate.weight_files(source):
        header = gate.read_header(path)
        for name, entry in header.items():
            end = next((part for part in longest if name.endswith(f".{part}")), None)
            ours = name if end is None else name.removesuffix(end) + parts[end]
            found[ours] = found.get(ours, 0) + entry.end - entry.start
        found[f"{path.name} header"] = path.stat().st_size - sum(
            entry.end - entry.start for entry in header.values()
        )
    return found


def tensor_of(
    tensors: Checkpoint, name: str, shape: tuple[int, ...], kinds: tuple[torch.dtype, ...]
) -> Tensor:
    """Return a tensor of the wanted shape and one of some dtypes; raises ModelFileError."""
    if name not in tensors:
        raise ModelFileError(f"tensor {name} is missing")
    if tensors.shape(name) != shape or tensors.dtype(name) not in kinds:
        raise ModelFileError(
            f"tensor {name} has shape {tensors.shape(name)} and dtype {tensors.dtype(name)}; "
            f"{shape} was wanted"
        )
    return tensors.read(name)


def whole(section: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Return a whole number of a quantization section; raises ModelFileError."""
    value = section.get(key, default)
    if type(value) is not int:
        raise ModelFileError(f"quantization_config: {key} is {value!r}, which is no whole number")
    return value


def parsed(tensor: Tensor, name: str) -> dict[str, Any]:
    """Return a JSON object that is stored as a tensor of bytes; raises ModelFileError."""
    try:
        value = json.loads(bytes(tensor.tolist()).decode())
    except (ValueError, RecursionError, TypeError) as error:
        raise ModelFileError(f"tensor {name} holds no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"tensor {name} holds no JSON object")
    return value


def _as_in(model: PreTrainedModel, contents: Contents) -> dict[str, Tensor]:
    """Return the plain tensors by their names in memory, weights of a Conv1D turned."""
    names = names_in_memory(model, contents.plain)
    found = {names[name]: tensor for name, tensor in contents.plain.items()}
    for name in contents.turned:
        if isinstance(model.get_submodule(name), Conv1D):
            found[f"{name}.weight"] = found[f"{name}.weight"].t().contiguous()
    return found


def _check(
    model: PreTrainedModel, contents: Contents, plain: Mapping[str, Tensor], source: Path
) -> None:
    """Raise ModelFileError unless names and shapes are exactly those of the configuration."""
    tied = set(model.all_tied_weights_keys)
    wanted = {n: tuple(p.shape) for n, p in model.state_dict().items() if n not in tied}
    given = {name: tuple(tensor.shape) for name, tensor in plain.items() if name not in tied}
    sites = {site.name: site for site in list_sites(model)}
    for name, packed in contents.packed.items():
        site = sites.get(name)
        if site is None or site.shape != packed.shape:
            raise ModelFileError(f"{source}: {name} of shape {packed.shape} is not in the model")
        given[f"{name}.weight"] = wanted.get(f"{name}.weight", ())
    odd = sorted(set(wanted).symmetric_difference(given))
    odd += sorted(name for name in wanted if name in given and wanted[name] != given[name])
    if odd:
        raise ModelFileError(
            f"{source}: {odd[0]} has shape {given.get(odd[0], 'none')}, the configuration says "
            f"{wanted.get(odd[0], 'none')}"
        )


def _install(
    model: PreTrainedModel, site: Site, packed: PackedTensor, contents: Contents
) -> StoredSite:
    bias = site.bias(model) is not None
    install(model, site, packed)
    norm, module = contents.norms.get(site.name), model.get_submodule(site.name)
    if norm is not None and isinstance(module, QuantLinear):
        module.norm = norm
    return StoredSite(
        site.name,
        site.role,
        contents.method,
        site.shape,
        packed.format,
        bias,
        site.tied,
        None if norm is None else norm.epsilon,
    )


def _settle(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give packed embeddings, built from empty ones, the dtype in which they answer."""
    for module in model.modules():
        if isinstance(module, PackedModule) and "_dtype_probe" in module._buffers:
            module._buffers["_dtype_probe"] = torch.empty(0, dtype=dtype)
    model.config.dtype = dtype


def named(source: Path, read: Callable[[], Contents]) -> Contents:
    """Read, with the artefact's path in front of every error of ours."""
    try:
        return read()
    except QuantaleError as error:
        raise ModelFileError(f"{source}: {error}") from error
    except LOADING_ERRORS as error:
        raise ModelFileError(f"{source}: {first_line(error)}") from error
