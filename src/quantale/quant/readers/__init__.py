"""One file a kind of artefact of other programs; the name is its `quant_method`, or "gguf"."""
