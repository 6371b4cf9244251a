"""The decode loop: a static cache, sampling, streams, small batches, speculation."""
