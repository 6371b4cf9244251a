"""Where every byte of a model goes, on disk and in memory.

Bytes on disk are those of the weight files, headers included: what inference reads. Tokenizer
and configuration files are listed apart. Tied weights count once. Optimizer state never counts.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import ModelFileError
from quantale.models import gate
from quantale.models.adapter_record import bare, base_of, is_adapter_tensor
from quantale.models.foreign import reader_of
from quantale.models.gate import read_header
from quantale.quant.dispatch import fast_kernels, kernels, select
from quantale.quant.hf import names_in_memory
from quantale.quant.linear import PackedModule, QuantLinear
from quantale.quant.low_rank import LowRank
from quantale.quant.packed import PackedTensor
from quantale.quant.sites import EMBEDDING_ROLES, LINEAR_ROLES, Site, list_sites
from quantale.quant.stored import StoredSite

COMPONENTS = ("linear", "embedding", "head", "norm", "other", "adapter", "metadata")
"""`adapter` holds what an adapter's file adds to its base; `metadata` scales, zero points and
file headers."""
_COMPONENT_OF = {
    **dict.fromkeys(LINEAR_ROLES, "linear"),
    **dict.fromkeys(EMBEDDING_ROLES, "embedding"),
    "head": "head",
    "norm": "norm",
}
_ADAPTER = "adapter/"
"""In front of the names of an adapter's file."""
_SUPPORT = (
    "*config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.jinja",
    "*.safetensors.index.json",
)
"""Names by which transformers finds configurations and tokenizers; a run's records are others."""


@dataclass(frozen=True)
class SiteLine:
    """One weight in the ledger."""

    name: str
    role: str
    shape: tuple[int, int]
    method: str
    """"none" for a weight in full precision."""
    format: str
    bits_per_weight: float
    """Stored bits over the weights that are there; scales, padding, low-rank terms included."""
    nbytes: int
    kernel: str
    """The exact kernel that an input of one row in the model's dtype gets; "torch" for full
    precision, "rows" where rows are unpacked (embeddings, norms)."""
    fast_kernel: str
    """The same where kernels need not be exact."""


@dataclass(frozen=True)
class Ledger:
    """The bytes of one model."""

    bytes_on_disk: int | None
    """Weight files; None for a model that is only in memory."""
    bytes_resident: int
    """Parameters and buffers, shared storage once."""
    support_bytes: int | None
    """Configuration and tokenizer files."""
    parameters: int
    """Weights that the model stands for, tied ones once. (transformers' own `num_parameters()`
    counts only what is left in full precision: packed codes are buffers.)"""
    adapter_parameters: int
    """Those of them that an adapter adds to its base; only they were trained."""
    components: Mapping[str, int]
    """Bytes by component; adds up to bytes_on_disk, or to bytes_resident in memory."""
    sites: tuple[SiteLine, ...]
    """Norms only where they are quantized."""

    @property
    def bits_per_weight(self) -> float:
        """Stored bits a weight over the quantized sites; over all sites when none is quantized."""
        lines = [s for s in self.sites if s.method != "none"] or list(self.sites)
        weights = sum(s.shape[0] * s.shape[1] for s in lines)
        return 8 * sum(s.nbytes for s in lines) / weights

    @property
    def bits_per_weight_all(self) -> float:
        """Stored bits over all weights of the model."""
        size = self.bytes_resident if self.bytes_on_disk is None else self.bytes_on_disk
        return 8 * size / self.parameters

    def record(self) -> dict[str, Any]:
        """Return the JSON-able form."""
        return {
            "bytes_on_disk": self.bytes_on_disk,
            "bytes_resident": self.bytes_resident,
            "support_bytes": self.support_bytes,
            "parameters": self.parameters,
            "adapter_parameters": self.adapter_parameters,
            "bits_per_weight": self.bits_per_weight,
            "bits_per_weight_all": self.bits_per_weight_all,
            "components": dict(self.components),
            "sites": [vars(site) | {"shape": list(site.shape)} for site in self.sites],
        }

    def table(self) -> str:
        """Return a plain table of sites and components."""
        lines = [f"{'site':44} {'shape':>14} {'method':>8} {'bits':>6} {'bytes':>12}  kernel"]
        for site in self.sites:
            shape = f"{site.shape[0]} x {site.shape[1]}"
            lines.append(
                f"{site.name:44} {shape:>14} {site.method:>8} {site.bits_per_weight:6.2f} "
                f"{site.nbytes:12,}  {site.kernel}"
            )
        lines += [f"{name:44} {size:>44,}" for name, size in self.components.items() if size]
        total = self.bytes_resident if self.bytes_on_disk is None else self.bytes_on_disk
        where = "in memory" if self.bytes_on_disk is None else "on disk"
        lines.append(f"{'total ' + where:44} {total:>44,}")
        return "\n".join(lines)


def inspect(
    model: PreTrainedModel | tuple[PreTrainedModel, Any], folder: Path | None = None
) -> Ledger:
    """Return the ledger of a loaded model; with its folder also of the bytes on disk.

    An adapter's ledger is that of its base with one more component.
    """
    network: PreTrainedModel = model[0] if isinstance(model, tuple) else model
    stored = {site.name: site for site in stored_sites(network)}
    owners = _owners(network, stored)
    components: Counter[str] = Counter(dict.fromkeys(COMPONENTS, 0))
    sizes = _resident(network) if folder is None else _on_disk(folder)
    inside = names_in_memory(network, sizes)
    for name, size in sizes.items():
        owner = owners.get(bare(inside[name]))
        component = owner or _plain_component(network, inside[name], stored)
        is_added = name.startswith(_ADAPTER) or is_adapter_tensor(name)
        components["adapter" if is_added else component] += size
    support = None
    if folder is not None:
        found = {path for pattern in _SUPPORT for path in folder.glob(pattern)}
        support = sum(path.stat().st_size for path in found)
    return Ledger(
        bytes_on_disk=None if folder is None else sum(sizes.values()),
        bytes_resident=sum(_resident(network).values()),
        support_bytes=support,
        parameters=_parameters(network, stored),
        adapter_parameters=sum(
            p.numel() for name, p in network.named_parameters() if is_adapter_tensor(name)
        ),
        components=components,
        sites=tuple(_lines(network, stored)),
    )


def stored_sites(model: PreTrainedModel) -> list[StoredSite]:
    """Return the packed sites of a model, none for one in full precision."""
    config = getattr(model.config, "quantization_config", None)
    return config.stored() if config is not None and config.quant_method == "quantale" else []


def _on_disk(folder: Path) -> dict[str, int]:
    """Bytes of each tensor in the weight files, and of their headers."""
    reader = reader_of(folder)
    if reader is not None:
        return dict(reader.sizes(folder))
    found: dict[str, int] = {}
    if (folder / gate.ADAPTER_CONFIG).is_file():
        return _on_disk(base_of(folder)) | _of_adapter(folder / gate.ADAPTER_WEIGHTS)
    for path in sorted(folder.glob("*.safetensors")):
        tensors = read_header(path)
        found |= {name: entry.end - entry.start for name, entry in tensors.items()}
        found[f"{path.name} header"] = path.stat().st_size - sum(
            t.end - t.start for t in tensors.values()
        )
    if not found:
        raise ModelFileError(f"{folder}: holds no safetensors file")
    return found


def _of_adapter(path: Path) -> dict[str, int]:
    tensors = read_header(path)
    found = {f"{_ADAPTER}{name}": entry.end - entry.start for name, entry in tensors.items()}
    found[f"{path.name} header"] = path.stat().st_size - sum(found.values())
    return found


def _resident(model: nn.Module) -> dict[str, int]:
    """Bytes of each parameter and buffer, shared ones under their first name."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    tensors: list[tuple[str, Tensor]] = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in tensors:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.numel() * tensor.element_size()
    return found


def _owners(model: PreTrainedModel, stored: Mapping[str, StoredSite]) -> dict[str, str]:
    """Component of every tensor of a site."""
    plain = {name: site.role for name, site in _plain_sites(model).items()}
    packed = {site.name: site.role for site in stored.values()}
    found = {}
    for name, role in (plain | packed).items():
        found[f"{name}.weight"] = _COMPONENT_OF.get(role, "other")
    norms = [name for name, role in (plain | packed).items() if role == "norm"]
    found |= {f"{name}.bias": "norm" for name in norms}
    for site in stored.values():
        parts = set(site.format.tensors(site.shape)) - {"weight"}
        found |= {f"{site.name}.{part}": "metadata" for part in parts}
        if site.rank is not None:
            found |= {
                f"{site.name}.low_rank.{part}": "metadata" if part.endswith("scale") else "linear"
                for part, _ in LowRank.blank(site.shape, site.rank).named_buffers()
            }
    return found


def _plain_component(model: nn.Module, name: str, stored: Mapping[str, StoredSite]) -> str:
    site, _, part = name.rpartition(".")
    if name.endswith(" header") or (site in stored and part != "bias"):
        return "metadata"  # files of others keep tables and orders beside the codes
    try:
        owner = type(model.get_submodule(name.rpartition(".")[0])).__name__
    except AttributeError:
        return "other"
    return "norm" if "norm" in owner.lower() else "other"


def _parameters(model: PreTrainedModel, stored: Mapping[str, StoredSite]) -> int:
    packed = sum(site.shape[0] * site.shape[1] for site in stored.values())
    return packed + sum(p.numel() for p in model.parameters())


def _lines(model: PreTrainedModel, stored: Mapping[str, StoredSite]) -> list[SiteLine]:
    sites = _plain_sites(model).items()
    plain = {name: _plain_line(model, name, s) for name, s in sites if s.role != "norm"}
    packed = {name: _packed_line(model, site) for name, site in stored.items()}
    lines = plain | packed
    return [lines[name] for name, _ in model.named_modules() if name in lines]


def _plain_sites(model: PreTrainedModel) -> dict[str, Site]:
    """Return the sites in full precision by their names in the base."""
    return {bare(s.name): s for s in list_sites(model) if not is_adapter_tensor(s.name)}


def _plain_line(model: PreTrainedModel, name: str, site: Site) -> SiteLine:
    weight = site.weight(model)
    size = weight.element_size()
    kind = str(weight.dtype).removeprefix("torch.")
    nbytes = weight.numel() * size
    return SiteLine(name, site.role, site.shape, "none", kind, 8.0 * size, nbytes, "torch", "torch")


def _packed_line(model: PreTrainedModel, site: StoredSite) -> SiteLine:
    found = model.get_submodule(site.name)
    module = getattr(found, "base_layer", found)
    if not isinstance(module, PackedModule):
        raise ModelFileError(f"{site.name}: listed as packed, but it is a {type(module).__name__}")
    packed = module.packed
    kernel = fast = "rows"
    nbytes = packed.nbytes
    if isinstance(module, QuantLinear):
        nbytes += 0 if module.low_rank is None else module.low_rank.nbytes
        probe = _probe(model, packed)
        kernel = select(probe, packed)[0]
        with fast_kernels():
            fast = select(probe, packed)[0]
    return SiteLine(
        site.name,
        site.role,
        site.shape,
        site.method,
        repr(site.format),
        8 * nbytes / (site.shape[0] * site.shape[1]),
        nbytes,
        kernel,
        fast,
    )


def _probe(model: PreTrainedModel, packed: PackedTensor) -> Tensor:
    """Return an input of one row as the model would give it."""
    device = packed.tensors["weight"].device
    device = torch.device("cpu") if device.type == "meta" else device
    return torch.empty(1, packed.shape[1], dtype=model.dtype, device=device)


def refusals(model: PreTrainedModel) -> dict[str, dict[str, int]]:
    """Return why each kernel does not run packed linear layers: sites by reason, by kernel."""
    found: dict[str, dict[str, int]] = {name: {} for name, _ in kernels()}
    for module in model.modules():
        if not isinstance(module, QuantLinear):
            continue
        packed = module.packed
        for name, kernel in kernels():
            for reason in kernel.refuses(_probe(model, packed), packed):
                found[name][reason] = found[name].get(reason, 0) + 1
    return found


def kernel_names(model: PreTrainedModel) -> dict[str, str]:
    """Return the kernel that ran last at every packed site, "torch" for all when none is packed.

    Where nothing ran yet it is the exact kernel that would.
    """
    lines = [line for line in inspect(model).sites if line.method != "none"]
    ran = {
        bare(name): module.runner.name
        for name, module in model.named_modules()
        if isinstance(module, QuantLinear) and module.runner.name is not None
    }
    return {line.name: ran.get(line.name, line.kernel) for line in lines} or {"*": "torch"}
