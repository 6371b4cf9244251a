"""First tokens of three models at once, and what speculation gains or costs.

    python -m benchmarks.serving_speed [--model FOLDER] [--rounds N] [--threads N]

Three engines over one nanoGPT (6 layers, width 384, context 256, random weights) in float32, 8 and
4 bits are asked at the same moment, as the page with answers side by side does; "first token" is
from handing in to the first piece, the slowest of the three, and a round asks anew. Speculation
decodes greedy texts of one slot with and without a draft, taking turns, and reports the ratio of
times by round, so that a busy machine disturbs both alike: above 1 the draft makes it faster.
Drafts are the model itself in 8 and 4 bits and, with --model, those of a trained model too, whose
texts are easier to guess. "Processor time" is that of all three models together until the last
first token; two cores need half of it at least, however busy they are with other things.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from transformers import PreTrainedModel

from quantale.data.tokenizers import train_characters
from quantale.inference.engine import Engine
from quantale.inference.request import Request
from quantale.inference.sampling import Sampling
from quantale.inference.speculative import Draft
from quantale.models.build import build_model
from quantale.models.load import LoadedModel, load
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import Methods, quantize_model

PROMPT_TOKENS, NEW_TOKENS, AHEAD = 64, 40, 4
TARGET_SECONDS = 0.3
BITS = {"8 bits": Rtn(8, "row", symmetric=True), "4 bits": Rtn(4, 64)}


def main() -> None:
    """Measure both and print."""
    asked = _arguments()
    torch.set_num_threads(asked.threads)
    nano = _nanogpt()
    models = {"float32": nano} | {name: _rounded(nano, method) for name, method in BITS.items()}
    _first_tokens(models, asked.rounds)
    _speculation("nanoGPT, random weights", models, asked.rounds)
    if asked.model is not None:
        trained = load(asked.model)
        small = {name: _rounded(trained, method) for name, method in BITS.items()}
        _speculation(asked.model.name, {"float32": trained} | small, asked.rounds)


def _first_tokens(models: dict[str, LoadedModel], rounds: int) -> None:
    engines = {name: Engine(model, slots=1, name=name) for name, model in models.items()}
    slowest: list[float] = []
    processor: list[float] = []
    by_name = {name: list[float]() for name in engines}
    for number in range(rounds + 1):
        request = _request(number, 8, engines["float32"])
        before = time.process_time()
        streams = {name: engine.submit(request) for name, engine in engines.items()}
        firsts = {name: next(iter(stream)).seconds for name, stream in streams.items()}
        used = time.process_time() - before
        for stream in streams.values():
            list(stream)
        if number:  # the first round warms up
            slowest.append(max(firsts.values()))
            processor.append(used)
            for name, seconds in firsts.items():
                by_name[name].append(seconds)
    for engine in engines.values():
        engine.close()
    print(f"first token, three models at once, {PROMPT_TOKENS} prompt tokens, {rounds} rounds")
    for name, found in by_name.items():
        print(f"  {name:10} median {_ms(found)}")
    print(f"  processor  median {_ms(processor)}")
    within = sum(seconds <= TARGET_SECONDS for seconds in slowest)
    print(f"  slowest    median {_ms(slowest)}, largest {1000 * max(slowest):.0f} ms")
    print(f"  within {1000 * TARGET_SECONDS:.0f} ms: {within} of {rounds} rounds")


def _speculation(title: str, models: dict[str, LoadedModel], rounds: int) -> None:
    target = models["float32"]
    print(f"speculation, {title}, {AHEAD} tokens ahead, {NEW_TOKENS} greedy tokens")
    for name in list(models)[1:]:
        plain = Engine(target, slots=1)
        drafted = Engine(target, slots=1, draft=Draft(models[name], AHEAD))
        ratios, same = [], 0
        for number in range(rounds + 1):
            request = _request(number, NEW_TOKENS, plain)
            alone, first = _timed(plain, request)
            helped, second = _timed(drafted, request)
            same += first == second
            if number:
                ratios.append(alone / helped)
        tally = drafted.tally
        assert tally is not None
        low, high = min(ratios), max(ratios)
        print(
            f"  draft {name:8} speed-up {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}), "
            f"{tally.accepted / tally.guessed:.0%} of guesses right, same text in {same} of "
            f"{rounds + 1}, near-ties {tally.near_ties}"
        )
        plain.close()
        drafted.close()


def _timed(engine: Engine, request: Request) -> tuple[float, Sequence[int]]:
    started = time.perf_counter()
    tokens = [piece.token for piece in engine.submit(request)]
    return (time.perf_counter() - started) / len(tokens), tokens


def _request(seed: int, new_tokens: int, engine: Engine) -> Request:
    generator = torch.Generator().manual_seed(seed)
    size = int(engine.model.config.vocab_size)
    count = min(PROMPT_TOKENS, engine.context // 4)
    tokens = torch.randint(2, size, (count,), generator=generator).tolist()
    return Request(tuple(tokens), Sampling(0.0), new_tokens)


def _nanogpt() -> LoadedModel:
    tokenizer = train_characters(["".join(map(chr, range(32, 126)))])
    config = NanoGPTConfig(
        vocab_size=len(tokenizer),
        n_positions=256,
        n_embd=384,
        n_layer=6,
        n_head=6,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = build_model(config, seed=5).eval()
    with torch.no_grad():  # fresh weights give nearly even logits, which nobody could guess
        model.lm_head.weight.mul_(8)
    return LoadedModel(model, tokenizer, Path("nanogpt"))


def _rounded(loaded: LoadedModel, method: Rtn) -> LoadedModel:
    model: PreTrainedModel = deepcopy(loaded.model)
    quantize_model(model, Methods(method))
    return LoadedModel(model, loaded.tokenizer, loaded.path)


def _ms(seconds: Sequence[float]) -> str:
    return f"{1000 * statistics.median(seconds):.0f} ms"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a trained model directory")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
