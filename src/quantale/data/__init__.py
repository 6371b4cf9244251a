"""Corpora, tokenizers and windows; knows nothing of models or quantization."""
