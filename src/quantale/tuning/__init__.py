"""The training loop and its checkpoints; each tuning method is a loss and a parameter set."""
