"""Formats, methods and kernels of quantization, and what joins them to a model."""
