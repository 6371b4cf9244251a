"""Named codebooks: the values that 4-bit codes of a codebook format stand for.

NF4: Dettmers et al., "QLoRA", arXiv 2305.14314, appendix E: quantiles of a normal distribution,
scaled to [-1, 1], with an exact zero. FP4: one sign, two exponent and one mantissa bit with a
subnormal, scaled to [-1, 1], in the order of codes that bitsandbytes stores.
"""

from typing import Final

from quantale.core.errors import UsageError, nearest

NF4: Final = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
_FP4_HALF: Final = (0.0, 0.0052083333, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25)
FP4: Final = (*_FP4_HALF, *(-value for value in _FP4_HALF))

TABLES: Final = {"nf4": NF4, "fp4": FP4}


def values_of(table: str | tuple[float, ...]) -> tuple[float, ...]:
    """Return the values of a named table, or the table itself."""
    if isinstance(table, tuple):
        return table
    if table not in TABLES:
        hint = nearest(table, TABLES)
        raise UsageError(f"no codebook {table!r}; there are {', '.join(TABLES)}{hint}")
    return TABLES[table]
