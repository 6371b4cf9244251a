"""The shipped experiments, as YAML."""
