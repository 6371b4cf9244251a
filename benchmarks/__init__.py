"""Comparisons of speed and quality; each prints figures measured in one run."""
