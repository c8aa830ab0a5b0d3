# make demo          the whole way on painted photos, then the default model (DATA=folder: on your photos)
# make test          the whole suite
# make check         format, lint, types, import contracts, what bandit finds, then the suite
# make lock          writes constraints*.txt and what a Space installs, the newest that pyproject.toml allows, with hashes
# make audit         do those have weaknesses that are known? (pip-audit, which asks an advisory service)
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
VENV_LOCK ?= .venv-lock
HASHED = --quiet --require-hashes --no-deps --only-binary :all:
VERSIONS = grep -ohE '^[A-Za-z0-9._-]+==[^ ]+' constraints.txt constraints-torch.txt
SPACE = src/spectraderm/serving/spaces/templates/requirements.txt
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(VENV_LOCK)/bin/uv pip compile --quiet --only-binary :all: --no-annotate --python-version 3.11
# every file by its hash; what a build of torch brings along is its own, see constraints-torch.txt
LOCK = grep -Ev '^(torch==|nvidia-|cuda-|triton)' | $(COMPILE) --no-deps --generate-hashes

.PHONY: demo test test-oldest test-newest test-hub check lint lock audit web docs notebook browser bench bench-peers clean

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
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src

lock: $(VENV_LOCK)/lock.stamp
	$(COMPILE) --extra dev pyproject.toml | $(LOCK) - > constraints.txt
	$(COMPILE) --extra dev --resolution lowest-direct pyproject.toml | $(LOCK) - > constraints-oldest.txt
	printf 'hatchling>=1.27,<2\neditables\n' | $(COMPILE) - | $(LOCK) - > constraints-build.txt
	$(VERSIONS) > $(VENV_LOCK)/versions.txt
	$(COMPILE) --universal --extra serve --constraint $(VENV_LOCK)/versions.txt pyproject.toml | $(LOCK) --universal - > $(SPACE)

audit: $(VENV_LOCK)/lock.stamp
	for file in constraints.txt constraints-build.txt $(SPACE); do $(VENV_LOCK)/bin/pip-audit --strict --disable-pip --require-hashes --requirement $$file || exit 1; done

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
	rm -rf site $(VENV) .venv-oldest .venv-newest $(VENV_PEERS) $(VENV_HUB) $(VENV_LOCK) benchmarks/hub/node_modules $(DEMO_OUT)

$(VENV)/train.stamp: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	echo '*' > $(VENV)/.gitignore
	$(VERSIONS) > $(VENV)/versions.txt
	$(PIP) install --quiet --constraint $(VENV)/versions.txt --editable ".[train]"
	touch $@

$(VENV)/docs.stamp: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	echo '*' > $(VENV)/.gitignore
	$(VERSIONS) > $(VENV)/versions.txt
	$(PIP) install --quiet --constraint $(VENV)/versions.txt --editable ".[docs,train]"
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints-build.txt $(CONSTRAINTS) $(CONSTRAINTS:.txt=-torch.txt)
	$(PYTHON) -m venv $(VENV)
	echo '*' > $(VENV)/.gitignore
ifneq ($(CONSTRAINTS),)
	$(PIP) install $(HASHED) --requirement $(CONSTRAINTS)
	$(PIP) install --quiet --requirement $(CONSTRAINTS:.txt=-torch.txt)
	$(PIP) install $(HASHED) --upgrade --target $(VENV)/build --requirement constraints-build.txt
	PYTHONPATH=$(VENV)/build $(PIP) install --quiet --no-build-isolation --no-deps --editable .
	$(PIP) check
else
	$(PIP) install --quiet --editable ".[dev]"
endif
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

$(VENV_LOCK)/lock.stamp:
	$(PYTHON) -m venv $(VENV_LOCK)
	echo '*' > $(VENV_LOCK)/.gitignore
	$(VENV_LOCK)/bin/python -m pip --disable-pip-version-check install --quiet "uv>=0.13,<1" "pip-audit>=2.10,<3"
	touch $@
