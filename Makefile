# `make quickstart` and `make test` are all that a newcomer needs; both install first.
PYTHON ?= python3
BIN := .venv/bin
RUN := runs/quickstart

.PHONY: quickstart test check slow models clean

quickstart: .venv/.installed
	$(BIN)/quantale run quickstart --out $(RUN)

test: .venv/.installed
	$(BIN)/pytest

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: .venv/.installed
	$(BIN)/pytest -m slow

# The reference model of the benchmarks, trained once and kept outside git in models/. Its data come
# from the Hub; offline, give a local file: make models DATA=stories.txt
models: .venv/.installed
	$(BIN)/quantale run nanogptq --only train --resume --out models/nanogptq $(if $(DATA),--set data=$(DATA))

clean:
	rm -rf runs build .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@
