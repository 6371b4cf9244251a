"""The grammar of the built-in corpus: word tables, plots by genre, and how a story is told."""
