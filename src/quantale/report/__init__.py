"""Verdicts, plots and the self-contained page, from result files alone."""
