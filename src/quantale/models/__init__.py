"""Loading and building models; knows nothing of quantization."""
