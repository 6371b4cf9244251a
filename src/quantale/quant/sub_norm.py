"""SubLN: an RMSNorm of its own in front of a packed linear layer.

Wang et al., "BitNet: Scaling 1-bit Transformers for Large Language Models", arXiv 2310.11453,
section 2.1, after Wang et al., "Magneto", arXiv 2210.06423: inputs are normalized before they are
rounded. RMSNorm in place of LayerNorm as in Ma et al., arXiv 2402.17764, section 2. The norm is a
child `norm` of the packed layer, so that its weight lies beside the codes, and the record of the
site in `config.json` names its epsilon: every family of models loads with it.
"""

import torch
from torch import Tensor, nn

EPSILON = 1e-5
"""Added to the mean square."""


class SubNorm(nn.Module):
    """Divide a vector by the root of its mean square, times a weight."""

    def __init__(self, width: int, epsilon: float = EPSILON) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize: (..., width) -> (..., width), computed in float32."""
        exact = x.to(torch.float32)
        power = exact.square().mean(-1, keepdim=True)
        return (exact * torch.rsqrt(power + self.epsilon) * self.weight).to(x.dtype)
