"""Other quantizers, one file each, run in an environment of their own.

`python -m benchmarks.peers MODEL OUT --peer hqq --set bits=4` quantizes a model directory with
another library and writes what is left of it: the dequantized model as an ordinary directory,
and what it cost in `result.json`. A peer is a file whose name is the peer's name, with a frozen
dataclass of its settings. Nothing here imports quantale.
"""
