"""Words that recipes, the command line and the library share; importing them costs nothing."""

from typing import Literal

Role = Literal["attention", "mlp", "embedding", "position", "head", "norm", "other"]
"""What a weight is for."""
Dtype = Literal["float32", "float16", "bfloat16"]
"""How numbers are kept that are not quantized."""
