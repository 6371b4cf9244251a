"""How many rows a step must have, so that no row's bits depend on its neighbours.

A product of one row and one of four may add in another order, and then the last bits of a logit
depend on who else is being served. How many rows give the same bits is a matter of library,
processor and thread count (measured: float32 on one thread agrees from 4 rows on in most models,
on two threads at multiples of 4, bfloat16 everywhere), so it is tried out when an engine starts.
Steps with fewer rows are filled up to the next number that agrees.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from quantale.core.errors import ModelFileError
from quantale.inference.network import Network

_SHORT, _LONG = 8, 72
"""Tokens of the rows that are tried: they read different numbers of columns."""
_AGREEMENT = 0.05
"""Allowed distance of cached logits from those of a plain forward pass, over their spread. Rounding
stays far below (bfloat16: 0.01); a model that reads other positions or a mask is far above."""


def agreeing_widths(network: Network, slots: int) -> tuple[int, ...]:
    """Return the numbers of rows, ascending, in which a row has the same bits wherever it stands.

    Needs a slot behind `slots`. Where not even full batches agree it is (1,): one row at a time.
    """
    short, long = (_tokens(network, size) for size in (_SHORT, _LONG))
    candidates = _candidates(slots)
    _fill(network, short, range(slots), slots)
    alike = {width: _step(network, [short] * width) for width in candidates}
    wanted = [alike[slots][0]]
    _fill(network, long, range(1, slots, 2), slots)
    mixed = {w: _step(network, [(short, long)[row % 2] for row in range(w)]) for w in candidates}
    wanted.append(mixed[slots][min(1, slots - 1)])
    agreeing = tuple(
        width
        for width in candidates
        if all(torch.equal(found, wanted[0]) for found in alike[width])
        and all(torch.equal(found, wanted[row % 2]) for row, found in enumerate(mixed[width]))
    )
    return agreeing or (1,)


def check_cache(network: Network) -> None:
    """Raise ModelFileError unless the cache gives what the model gives without one."""
    row = _tokens(network, _SHORT)
    size = len(row) - 1
    whole = torch.tensor([row], device=network.model.device)
    plain = network.model(whole, use_cache=False).logits[0, -1].float()
    network.forward(0, [row[:size]], [0])
    cached = network.forward(0, [row[size:]], [size])[0, -1]
    spread = (plain - plain.mean()).norm()
    if not float((cached - plain).norm()) <= _AGREEMENT * float(spread) + 1e-6:
        raise ModelFileError(
            f"{type(network.model).__name__} does not read a static cache as it reads whole texts; "
            "it cannot be served"
        )


def _fill(network: Network, text: list[int], targets: Iterable[int], spare: int) -> None:
    """Read all but the last token beside the slots and copy it into them."""
    network.forward(spare, [text[:-1]], [0])
    for slot in targets:
        network.cache.move(spare, slot, len(text) - 1)


def _step(network: Network, texts: Sequence[list[int]]) -> Tensor:
    """Return the logits behind the last tokens, (rows, vocabulary)."""
    starts = [len(text) - 1 for text in texts]
    return network.forward(0, [text[-1:] for text in texts], starts)[:, -1]


def _tokens(network: Network, size: int) -> list[int]:
    generator = torch.Generator().manual_seed(size)
    shape = (min(size, network.context - 1) + 1,)
    found: list[int] = torch.randint(network.vocabulary, shape, generator=generator).tolist()
    return found


def _candidates(slots: int) -> list[int]:
    powers = [1 << n for n in range(slots.bit_length())]
    return sorted({width for width in powers if width < slots} | {slots})
