"""Registry, recipes, runs, records, files and errors; nothing here imports torch."""
