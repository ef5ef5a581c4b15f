# Everything runs in .venv, which is made with PYTHON (3.11 or newer). A target installs what it needs and no more, at its
# first use. Only `make clean` removes .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo check test lab notebooks bench bench-long install format docs clean

demo: .venv/installed
	$(BIN)/vae-lab reconstruct data/astronaut.mp4 out/demo
	@echo "open out/demo/index.html in a browser"

# Two minutes: style, spelling, who imports whom, types, and the quick tests.
check: .venv/installed-test lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not slow and not browser and not notebook"

# Everything. The browser tests need Chromium.
test: .venv/installed-test .pipelines lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# Only tests of diffusers' pipelines need transformers, which would slow every other import of diffusers down.
.pipelines: constraints.txt | .venv/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ transformers==5.24.0 tokenizers regex
	@touch $@

.PHONY: lint
lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports
	$(BIN)/mypy

# Uploads of up to 200 MB. Jupyter's own limit is 10 MB, and it drops larger ones without a word.
lab: .venv/installed-train
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb --ServerApp.tornado_settings='{"websocket_max_message_size": 200000000}'

notebooks: .venv/installed-pages
	$(BIN)/python scripts/make_pages.py notebooks out/site

# Threads that wait for more than about 0.1 ms leave their core to others, so that CPU seconds count.
BENCH = GOMP_SPINCOUNT=5000 $(BIN)/python -m benchmarks

bench: .venv/installed-train
	$(BENCH)

# Released sizes too: an hour.
bench-long: .venv/installed-train
	$(BENCH) --long

# All that a developer needs; then `.venv/bin/pre-commit install` for checks at each commit.
install: .venv/installed-dev

format: .venv/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages that are generated from the source.
docs: .venv/installed-test
	$(BIN)/python scripts/make_api_page.py
	$(BIN)/python scripts/make_import_diagram.py

clean:
	rm -rf .venv out

# The stamp of an installation, with an extra of pyproject.toml or without one.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.venv/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) .
	@touch $@

.venv/installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[$*]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vae_lab needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
