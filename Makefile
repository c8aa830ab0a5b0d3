# make demo          the whole way on painted photos, then the default model (DATA=folder: on your photos)
# make test          the whole suite
# make check         format, lint, types, import contracts, then the suite
# make browser       installs Chromium for the browser tests, which are skipped without (Debian, as root)
# make bench         the numbers of the README, from the reference data set (DATA=folder)
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
DEMO_OUT ?= spectraderm-demo

.PHONY: demo test check lint browser bench clean

demo: $(VENV)/train.stamp
	rm -rf $(DEMO_OUT)
	$(BIN)/spectraderm demo --out $(DEMO_OUT) $(if $(DATA),--data "$(DATA)")

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: lint test

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

browser:
	command -v chromium || (apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium)

bench: $(VENV)/train.stamp
	$(BIN)/python benchmarks/protocols.py "$(DATA)"

clean:
	rm -rf $(VENV) $(DEMO_OUT)

$(VENV)/train.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[train]"
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
