"""Factor a Hessian once; rounding with feedback and least-squares corrections read the factor.

With H = R RT, R upper triangular, the damage sum over rows of (q - w) H (q - w)T becomes a sum
of squares, one a column: R_kk^2 (e_k + sum over i < k of e_i U_ik)^2, with e = q - w and the unit
triangular U = R / diag(R). Column k is therefore best rounded at w_k minus what the errors before
it ask for. That is GPTQ's sweep without an inverse: Chee et al., "QuIP", arXiv 2307.13304,
section 3 (LDLQ) and theorem 6 (it equals GPTQ).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quantale.core.errors import NumericalError
from quantale.quant.rows import all_finite, chunks

MAX_DAMP = 10.0
_BLOCK = 512


@dataclass(frozen=True)
class Factor:
    """U and the squared diagonal of R: H = U diag(power) UT."""

    unit: Tensor
    """(in, in) float32, unit upper triangular."""
    power: Tensor
    """(in,) float32, positive."""
    damp: float
    """What was added to the diagonal."""

    def solve(self, right: Tensor) -> Tensor:
        """Return X with X H = right, both (rows, in) float32."""
        half = torch.linalg.solve_triangular(
            self.unit.t(), right, upper=False, left=False, unitriangular=True
        )
        return torch.linalg.solve_triangular(
            self.unit, half / self.power, upper=True, left=False, unitriangular=True
        )


def factorize(hessian: Tensor, damp: float, order: Tensor | None = None) -> Factor:
    """Factor a damped Hessian, computed in float64 in one buffer of its size.

    hessian: (in, in), positive semi-definite; not changed. damp: share of the mean diagonal that
    is added to the diagonal; it grows tenfold until the factorization works. Dead columns (zero
    on the diagonal) get the mean. order: (in,) in which the columns are taken; None: as they are.
    Raises NumericalError when the Hessian is not finite or stays singular.
    """
    if not all_finite(hessian):
        raise NumericalError("the Hessian is not finite; look for overflow in the activations")
    order = torch.arange(hessian.shape[0]) if order is None else order
    diagonal = hessian.diagonal()[order].to(torch.float64)
    dead = diagonal <= 0
    mean = diagonal[~dead].mean() if bool((~dead).any()) else torch.ones((), dtype=torch.float64)
    diagonal = torch.where(dead, mean, diagonal)
    while damp <= MAX_DAMP:
        buffer = _reversed(hessian, order)
        buffer.diagonal().copy_((diagonal + damp * mean).flip(0))
        if _cholesky(buffer):
            return _factor(buffer, float(damp * mean))
        del buffer  # before the next one is made
        damp *= 10
    raise NumericalError("the Hessian stays singular; use more calibration data or raise damp")


def _reversed(hessian: Tensor, order: Tensor) -> Tensor:
    """Return the Hessian with its columns from last to first of the order, in float64."""
    back = order.flip(0)
    buffer = torch.empty(hessian.shape, dtype=torch.float64)
    for rows in chunks(*hessian.shape):
        buffer[rows] = hessian[back[rows]][:, back].to(torch.float64)
    return buffer


def _factor(lower: Tensor, damp: float) -> Factor:
    """Return the factor of a reversed Hessian from its lower Cholesky factor in float64.

    The result lies in the first half of the memory of `lower`, which is used up: beside the Hessian
    there is never more than this one buffer.
    """
    size = lower.shape[0]
    root = lower.diagonal().to(torch.float32)
    flat = lower.view(torch.float32).view(-1)[: size * size]
    for rows in chunks(size, size):  # reads ahead of where it writes
        part = lower[rows].to(torch.float32).div_(root)
        flat[rows.start * size : rows.stop * size] = part.view(-1)
    _turn(flat)
    return Factor(flat.view(size, size), root.square().flip(0), damp)


def _turn(flat: Tensor) -> None:
    """Reverse a vector in place: a matrix turned by half a circle."""
    count = flat.numel()
    for part in chunks(count // 2, 1):
        mirrored = slice(count - part.stop, count - part.start)
        head = flat[part].flip(0)
        flat[part] = flat[mirrored].flip(0)
        flat[mirrored] = head


def _cholesky(matrix: Tensor) -> bool:
    """Replace a symmetric matrix by its lower Cholesky factor; return whether that worked.

    Block by block (right-looking), so that no second matrix of its size is needed.
    """
    size = matrix.shape[0]
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        lower, failed = torch.linalg.cholesky_ex(matrix[start:stop, start:stop])
        if bool(failed) or not bool(torch.isfinite(lower).all()):
            return False
        matrix[start:stop, start:stop] = lower
        matrix[start:stop, stop:] = 0
        if stop == size:
            break
        panel = torch.linalg.solve_triangular(
            lower.t(), matrix[stop:, start:stop], upper=True, left=False
        )
        matrix[stop:, start:stop] = panel
        for first in range(stop, size, _BLOCK):
            last = min(first + _BLOCK, size)
            rows = panel[first - stop :]
            matrix[first:, first:last] -= rows @ panel[first - stop : last - stop].t()
    return True
