"""What is compared: settings of the peers and of our methods. Add a line to add a variant."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Variant:
    """One way to quantize a model."""

    name: str
    """Label in the table, and folder name."""
    maker: str
    """"quantale", or the file name of a peer."""
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    """Of the peer's dataclass, or of our method's."""
    method: str = ""
    """Our method; empty for a peer."""
    embedding_bits: int | None = None
    """Bits of our embeddings; None: float16, as with peers that pack linear layers only."""

    @property
    def words(self) -> list[str]:
        """The command line that makes it, without the interpreter and the paths."""
        settings = [w for key, value in self.settings.items() for w in ("--set", f"{key}={value}")]
        if self.maker != "quantale":
            return ["--peer", self.maker, *settings]
        ends = [] if self.embedding_bits is None else ["--embedding-bits", str(self.embedding_bits)]
        return ["--method", self.method, *settings, *ends]


def own(name: str, method: str, embedding_bits: int | None = None, **settings: Scalar) -> Variant:
    """Return a variant of ours."""
    return Variant(name, "quantale", settings, method, embedding_bits)


def peer(name: str, maker: str, **settings: Scalar) -> Variant:
    """Return a variant of a peer."""
    return Variant(name, maker, settings)


ENDS = (
    (8, 64, 8), (6, 64, 8), (6, 64, 6), (5, 64, 6), (5, 128, 6), (4, 32, 8), (4, 64, 6), (4, 64, 5),
    (4, 64, 4), (3, 32, 6), (3, 64, 6), (3, 64, 4), (2, 32, 6), (2, 64, 6), (2, 64, 4),
)  # fmt: skip
"""Bits and group of the linears, bits of the embeddings, for llama.cpp's mixes."""

OURS = (
    *(
        own(f"{method}-{bits}bit-g{group}", method, bits=bits, group_size=group)
        for method in ("rtn", "gptq", "hqq")
        for bits in (8, 6, 4, 3, 2, 1)
        for group in (32, 64, 128)
    ),
    *(own(f"{name}-8bit-row", name, bits=8, group_size="row") for name in ("rtn", "gptq")),
    *(
        own(f"gptq-{bits}bit-g{group}-sym", "gptq", bits=bits, group_size=group, symmetric=True)
        for bits in (8, 4, 3, 2)
        for group in (32, 64, 128)
    ),
    *(
        own(f"gptq-{bits}bit-g{group}-double", "gptq", bits=bits, group_size=group,
            double_quant=True)
        for bits in (4, 3, 2)
        for group in (16, 32, 64)
    ),
    *(own(f"hqq-{bits}bit-g64-axis0", "hqq", bits=bits, axis=0) for bits in (4, 3, 2, 1)),
    *(own(f"gptq-{bits}bit-g{group}-correct", "gptq", bits=bits, group_size=group, correct=0.5)
      for bits in (8, 4, 3, 2)
      for group in (32, 64, 128)),
    *(own(f"gptq-{bits}bit-g128-float-correct", "gptq", bits=bits, group_size=128, correct=0.5,
          zero_dtype="float16") for bits in (4, 3, 2)),
    *(own(f"gptq-{bits}bit-g64-paper", "gptq", bits=bits, group_size=64, act_order="false",
          clip="none", refine=0) for bits in (4, 3, 2)),
    *(own(f"rtn-{bits}bit-g64-mse", "rtn", bits=bits, group_size=64, clip="mse")
      for bits in (4, 3, 2)),
    *(
        own(f"gptq-{bits}bit-g{group}-e{ends}-correct", "gptq", ends, bits=bits, group_size=group,
            correct=0.5)
        for bits, group, ends in ENDS
    ),
    own("nf4-g64", "nf4"),
    own("nf4-g64-double", "nf4", double_quant=True),
    own("fp4-g64", "fp4"),
    own("bitnet", "bitnet"),
    own("bitnet-g64", "bitnet", group_size=64, scale_dtype="float16", activation_bits="null"),
    *(own(f"binary-g{group}", "binary", group_size=group) for group in (32, 64, 128)),
    own("binary-g64-asym", "binary", symmetric=False),
)  # fmt: skip
"""Our variants; embeddings of `e` bits answer llama.cpp's mixes, which quantize them too."""

PEERS = (
    *(
        peer(f"hqqlib-{bits}bit-g{group}", "hqq", bits=bits, group_size=group)
        for bits in (8, 4, 3, 2, 1)
        for group in (32, 64, 128)
    ),
    *(peer(f"hqqlib-{bits}bit-g64-axis0", "hqq", bits=bits, axis=0) for bits in (8, 4, 3, 2, 1)),
    peer("bitsandbytes-int8", "bitsandbytes", kind="int8"),
    peer("bitsandbytes-nf4", "bitsandbytes"),
    peer("bitsandbytes-nf4-double", "bitsandbytes", double_quant=True),
    peer("bitsandbytes-fp4", "bitsandbytes", kind="fp4"),
    *(
        peer(f"gptqmodel-{bits}bit-g{group}", "gptqmodel", bits=bits, group_size=group)
        for bits in (8, 4, 3, 2)
        for group in (32, 64, 128)
    ),
    *(
        peer(f"gptqmodel-{bits}bit-g64-order", "gptqmodel", bits=bits, group_size=64, desc_act=True)
        for bits in (4, 3, 2)
    ),
    *(
        peer(f"gptqmodel-{bits}bit-g64-asym", "gptqmodel", bits=bits, group_size=64, sym=False)
        for bits in (4, 3, 2)
    ),
    peer("torchao-int8", "torchao", kind="int8"),
    peer("torchao-int4", "torchao", kind="int4"),
    *(
        peer(f"torchao-intx{bits}-g{group}", "torchao", bits=bits, group_size=group)
        for bits in (4, 3, 2)
        for group in (32, 64, 128)
    ),
    *(
        peer(f"llama.cpp-{mix}", "llama_cpp", mix=mix)
        for mix in ("Q8_0", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
    ),
    *(
        peer(f"llama.cpp-{mix}-f16emb", "llama_cpp", mix=mix, embeddings="f16")
        for mix in ("Q8_0", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
    ),
    *(
        peer(
            f"llama.cpp-{mix}-f16emb-imatrix", "llama_cpp", mix=mix, embeddings="f16", imatrix=True
        )
        for mix in ("Q4_K_M", "Q3_K_M", "Q2_K")
    ),
)
"""The peers' variants."""
