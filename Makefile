# `make quickstart` and `make test` are all that a newcomer needs; both install first.
PYTHON ?= python3
BIN := .venv/bin
RUN := runs/quickstart

.PHONY: quickstart test check slow models peers real clean

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

# The reference models of the benchmarks, trained once and kept outside git in models/: a GPT-2 of
# width 512 and its twin with outlier channels. About an hour on two cores. Their data come from the
# Hub; offline, give a local file: make models DATA=stories.txt
models: .venv/.installed
	OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0 $(BIN)/python -m benchmarks.make_models --out models \
	$(if $(DATA),--data '$(DATA)')

# Other quantizers, in an environment of their own, or in one that is there already: PEERS=folder
PEERS := .venv-peers
PEERS_READY := $(if $(filter .venv-peers,$(PEERS)),.venv-peers/.installed)
peers: $(PEERS_READY)

# Our methods and theirs on a local model directory, ranked by bytes: make real MODEL=models/gpt2/model
# DATA=stories.txt. Calibrates on the train part of DATA and scores its test part; or CALIBRATION=other.txt
real: .venv/.installed $(PEERS_READY)
	$(BIN)/python -m benchmarks.real $(MODEL) --data '$(DATA)' --peers $(PEERS) \
	--out runs/real/$(subst /,-,$(patsubst %/,%,$(MODEL))) \
	$(if $(CALIBRATION),--calibration '$(CALIBRATION)') $(OPTIONS)

clean:
	rm -rf runs build .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv-peers/.installed: benchmarks/peers-requirements.txt
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@
