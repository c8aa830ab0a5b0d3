# make demo          the whole way on painted photos, then the default model (DATA=folder: on your photos)
# make test          the whole suite
# make check         format, lint, types, import contracts, then the suite
# make test-oldest   the suite with the oldest versions that pyproject.toml allows, in an environment of its own
# make test-newest   the same with the newest
# make browser       installs Chromium for the browser tests, which are skipped without (Debian, as root)
# make web           builds the page in src/spectraderm/serving/static from web/ (needs Node.js)
# make docs          builds the documents and the reference of Python, commands and files in site/
# make notebook      runs notebooks/spectraderm.ipynb and keeps what it shows
# make bench         how fast it is beside other programs, as a table (DATA=folder); half an hour
# make test-hub      do Optimum, transformers and transformers.js give our logits? (MODEL=folder, DATA=folder; npm, 1 GB)
# make bench-peers   installs those programs, once, into an environment of their own (3 GB)
# The other benchmarks are scripts in benchmarks/, each of which says how it is used.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
DEMO_OUT ?= spectraderm-demo
VENV_PEERS ?= .venv-peers
VENV_HUB ?= .venv-hub
PEERS ?= $(VENV_PEERS)/bin/python

.PHONY: demo test test-oldest test-newest test-hub check lint web docs notebook browser bench bench-peers clean

demo: $(VENV)/train.stamp
	rm -rf $(DEMO_OUT)
	$(BIN)/spectraderm demo --out $(DEMO_OUT) $(if $(DATA),--data "$(DATA)")

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-oldest:
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

test-newest:
	rm -rf .venv-newest
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=

test-hub: $(VENV)/dev.stamp $(VENV_HUB)/hub.stamp
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python benchmarks/hub.py $(if $(MODEL),"$(MODEL)") $(if $(DATA),--photos "$(DATA)") --python $(VENV_HUB)/bin/python

check: lint test

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

web:
	cd web && npm ci --ignore-scripts --no-audit --no-fund && npm run check && npm run build

docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

notebook: $(VENV)/docs.stamp
	rm -rf notebooks/notebook
	PYTHONWARNINGS=ignore $(BIN)/python -m nbconvert --ClearMetadataPreprocessor.enabled=True --to notebook --execute --inplace notebooks/spectraderm.ipynb
	rm -rf notebooks/notebook

browser:
	command -v chromium || (apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium)

bench: $(VENV)/train.stamp
	$(BIN)/python benchmarks/peers.py $(if $(DATA),"$(DATA)") --peers "$(PEERS)"

bench-peers: $(VENV_PEERS)/peers.stamp

clean:
	rm -rf site $(VENV) .venv-oldest .venv-newest $(VENV_PEERS) $(VENV_HUB) benchmarks/hub/node_modules $(DEMO_OUT)

$(VENV)/train.stamp: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	echo '*' > $(VENV)/.gitignore
	$(PIP) install --quiet $(CONSTRAINTS:%=--constraint %) --editable ".[train]"
	touch $@

$(VENV)/docs.stamp: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	echo '*' > $(VENV)/.gitignore
	$(PIP) install --quiet $(CONSTRAINTS:%=--constraint %) --editable ".[docs,train]"
	touch $@

$(VENV)/dev.stamp: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	echo '*' > $(VENV)/.gitignore
	$(PIP) install --quiet $(CONSTRAINTS:%=--constraint %) --editable ".[dev]"
	touch $@

$(VENV_PEERS)/peers.stamp: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(VENV_PEERS)
	echo '*' > $(VENV_PEERS)/.gitignore
	$(VENV_PEERS)/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	touch $@

$(VENV_HUB)/hub.stamp: benchmarks/hub/requirements.txt benchmarks/hub/package.json
	$(PYTHON) -m venv $(VENV_HUB)
	echo '*' > $(VENV_HUB)/.gitignore
	$(VENV_HUB)/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	cd benchmarks/hub && PATH="$(abspath $(BIN)):$$PATH" npm install --ignore-scripts --no-package-lock --no-audit --no-fund
	touch $@
