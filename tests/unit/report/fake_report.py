"""A made-up but plausible experiment: one small GPT at full precision and in eight variants."""

import math
import random

from quantale.report.model import Estimate, ReportData, Site, TrainPoint, VariantRow

LAYERS, WIDTH, VOCABULARY, CONTEXT = 4, 128, 1024, 256
KINDS = {"attn.c_attn": 3, "attn.c_proj": 1, "mlp.c_fc": 4, "mlp.c_proj": 4}
BITS_PER_BYTE, PERPLEXITY = 0.9127, 5.214

# name, method, bits, group, embedding bits, loss, half width, kl, top-1, ms, verdict, p, n to tell
_VARIANTS = (
    ("rtn-w8", "rtn", 8, "row", 32, 0.00011, 0.00014, 0.0002, 0.9931, 1.49, "PASS", 0.11, None),
    ("gptq-w8", "gptq", 8, "row", 32, 0.00003, 0.00008, 0.0001, 0.9948, 1.50, "PASS", 0.91, None),
    ("rtn-w4", "rtn", 4, 64, 32, 0.0103, 0.0011, 0.0143, 0.9312, 1.94, "FAIL", 0.0004, None),
    ("gptq-w4", "gptq", 4, 64, 32, 0.0029, 0.0006, 0.0051, 0.9581, 1.95, "PASS", 0.0004, None),
    ("rtn-w3", "rtn", 3, 64, 32, 0.0712, 0.0041, 0.0981, 0.8123, 2.61, "FAIL", 0.0004, None),
    ("gptq-w3", "gptq", 3, 64, 32, 0.0192, 0.0018, 0.0287, 0.8992, 2.63, "FAIL", 0.0004, None),
    ("gptq-w4-emb8", "gptq", 4, 64, 8, 0.0031, 0.0006, 0.0054, 0.9569, 1.97, "PASS", 0.0004, None),
    ("gptq-w3-emb4", "gptq", 3, 64, 4, 0.0046, 0.0019, 0.0312, 0.8941, 2.66, "CANNOT TELL",
     0.0004, 640),
)  # fmt: skip

_STORY = (
    "there was a little fox named Pip who lived by the old mill. Pip wanted to find a red kite, "
    "but the wind was too strong that day. His friend Mara said, \"We can wait under the bridge.\" "
    "So they sat and shared a warm bun until the wind was tired. Then Pip saw the kite in a tree. "
    "Mara helped him climb, and they flew it home together before the moon came up."
)  # fmt: skip
_OTHER = (
    "a small girl went to the hill and found a blue stone that could sing. She took it to her "
    "grandfather, and he laughed and laughed. The end of the day was warm and everyone was happy."
)
PROMPTS = ("Once upon a time", "Mara was afraid of the dark because")


def report_data() -> ReportData:
    """Return the whole experiment."""
    rows = (_base(), *(_variant(i, values) for i, values in enumerate(_VARIANTS)))
    return ReportData(
        title="quickstart",
        description="A 0.95M-parameter GPT trained on generated children's stories.",
        base="fp32",
        variants=rows,
        margin=0.01,
        training=_training(),
        best_step=1200,
        prompts=PROMPTS,
        ties=(("fp32", "rtn-w8"), ("fp32", "gptq-w8"), ("rtn-w8", "gptq-w8"),
              ("gptq-w4", "gptq-w4-emb8"), ("gptq-w4", "gptq-w3-emb4"),
              ("gptq-w4-emb8", "gptq-w3-emb4")),
        protocol={
            "protocol": "document",
            "data": "storygen[test], 200 documents, 61,204 bytes",
            "data_sha256": "4f0c" * 16,
            "tokenizer_sha256": "91ab" * 16,
            "windows": "256 tokens, stride 128, each token scored once",
            "intervals": "95 %, bootstrap over documents, 10,000 resamples, seed 0",
            "latency": "batch 1, 16 + 64 tokens, median of 15 runs, interleaved",
        },
        environment={
            "quantale": "0.1.0",
            "python": "3.11.9",
            "packages": {"torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.4.6"},
            "cpu": "AMD EPYC 7B13, 2 cores",
            "cpu_flags": ["avx2", "avx512f"],
            "threads": 2,
            "commit": None,
        },
        command="quantale run quickstart --out runs/quickstart",
        warnings=("gptq-w3-emb4: column 17 of transformer.h.2.mlp.c_proj was dead and left at 0",),
    )  # fmt: skip


def _base() -> VariantRow:
    parts = _components(32, 32)
    return VariantRow(
        name="fp32", method="none", bytes_on_disk=sum(parts.values()), bits=32,
        bytes_resident=sum(parts.values()), bits_per_weight=32.0, bits_per_weight_all=32.0,
        parameters=_parameters(), components=parts,
        bits_per_byte=Estimate(BITS_PER_BYTE, 0.8961, 0.9302, 200),
        perplexity=Estimate(PERPLEXITY, 5.06, 5.39, 200),
        ms_per_token=Estimate(1.52, 1.47, 1.58, 15),
        ms_per_token_p90=1.71, peak_memory_bytes=412_000_000, kernel="aten", verified=True,
        samples=(_STORY, _STORY.replace("fox", "owl")),
    )  # fmt: skip


def _variant(index: int, values: tuple) -> VariantRow:  # type: ignore[type-arg]
    name, method, bits, group, embedding, loss, half, kl, top1, ms, verdict, p, tell = values
    parts = _components(bits, embedding)
    slope = math.log(PERPLEXITY) / BITS_PER_BYTE
    value = BITS_PER_BYTE + loss
    overhead = 0.5 if group == 64 else 0.25
    return VariantRow(
        name=name, method=method, bits=bits, group_size=group,
        bytes_on_disk=sum(parts.values()), bytes_resident=round(sum(parts.values()) * 1.02),
        bits_per_weight=bits + overhead, parameters=_parameters(), components=parts,
        bits_per_weight_all=sum(parts.values()) * 8 / _parameters(),
        bits_per_byte=Estimate(value, value - 0.0166, value + 0.0175, 200),
        perplexity=Estimate(math.exp(slope * value), math.exp(slope * (value - 0.0166)),
                            math.exp(slope * (value + 0.0175)), 200),
        delta_bits_per_byte=Estimate(loss, loss - half, loss + half, 200),
        kl_mean=Estimate(kl, kl * 0.9, kl * 1.1, 200),
        top1=Estimate(top1, top1 - 0.002, top1 + 0.002, 200), verdict=verdict, p_holm=p,
        n_to_tell=tell, ms_per_token=Estimate(ms, ms - 0.05, ms + 0.06, 15),
        ms_per_token_p90=ms * 1.13, peak_memory_bytes=398_000_000 + 1_000_000 * bits,
        kernel="reference", layer_errors=_errors(method, bits, index), verified=True,
        sites=_sites(method, bits), documents=_documents(loss, half, index),
        samples=_samples(index), quantize_seconds=0.2 if method == "rtn" else 6.4,
    )  # fmt: skip


def _parameters() -> int:
    linears = LAYERS * sum(KINDS.values()) * WIDTH * WIDTH
    return linears + (VOCABULARY + CONTEXT) * WIDTH + (2 * LAYERS + 1) * WIDTH


def _components(bits: int, embedding_bits: int) -> dict[str, int]:
    linears = LAYERS * sum(KINDS.values()) * WIDTH * WIDTH
    scales = 0 if bits == 32 else linears // (64 if bits < 8 else WIDTH) * 4
    return {
        "linear": linears * bits // 8 + scales,
        "embedding": (VOCABULARY + CONTEXT) * WIDTH * embedding_bits // 8,
        "head": 0,
        "norm": (2 * LAYERS + 1) * WIDTH * 4,
        "other": 61_440,
        "metadata": 9_216 if bits < 32 else 4_096,
    }


def _errors(method: str, bits: int, seed: int) -> tuple[tuple[str, float], ...]:
    noise = random.Random(seed)
    scale = 2.0 ** (1 - bits) * (0.45 if method == "gptq" else 1.0)
    weights = {"attn.c_attn": 0.7, "attn.c_proj": 1.25, "mlp.c_fc": 0.8, "mlp.c_proj": 1.5}
    return tuple(
        (
            f"transformer.h.{block}.{kind}",
            scale * weights[kind] * (1 + 0.18 * block) * noise.uniform(0.8, 1.25),
        )
        for block in range(LAYERS)
        for kind in KINDS
    )


def _sites(method: str, bits: int) -> tuple[Site, ...]:
    return tuple(
        Site(f"transformer.h.{block}.{kind}", kind.partition(".")[0], (ratio * WIDTH, WIDTH),
             method, f"affine {bits} bits", bits + 0.5, ratio * WIDTH * WIDTH * bits // 8, "aten")
        for block in range(LAYERS)
        for kind, ratio in KINDS.items()
    )  # fmt: skip


def _documents(loss: float, half: float, seed: int) -> tuple[tuple[float, float], ...]:
    noise = random.Random(100 + seed)
    spread = half * 7
    return tuple((noise.gauss(BITS_PER_BYTE, 0.08), noise.gauss(loss, spread)) for _ in range(200))


def _samples(index: int) -> tuple[str, ...]:
    words = _STORY.split(" ")
    kept = (len(words), 61, 19, 37, 4, 12, 33, 11)[index]
    first = " ".join(words[:kept])
    if kept < len(words):
        first += f" {_OTHER}"
    second = _STORY.replace("fox", "owl").split(" ")
    return first, " ".join(second[: kept // 2]) + " " + _OTHER


def _training() -> tuple[TrainPoint, ...]:
    noise = random.Random(7)
    points = []
    for step in range(0, 1401, 20):
        loss = 1.62 + 5.2 * math.exp(-step / 130) + 0.0002 * max(0, 600 - step)
        points.append(TrainPoint(step, "train", loss * noise.uniform(0.985, 1.015)))
        if step % 100 == 0:
            points.append(TrainPoint(step, "validation", loss + 0.03 + 1e-7 * (step - 1200) ** 2))
    return tuple(points)
