# Everything runs in .venv, which `make install` makes with PYTHON (3.11 or newer). Only `make clean` removes it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lab notebooks bench install format clean

demo: install
	$(BIN)/vae-lab reconstruct data/astronaut.mp4 out/demo
	@echo "open out/demo/index.html in a browser"

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder

# Uploads of up to 200 MB; Jupyter's own limit is 10 MB, and what is larger it drops without a word.
lab: install
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb --ServerApp.tornado_settings='{"websocket_max_message_size": 200000000}'

notebooks: install
	$(BIN)/python -m vae_lab.lessons.site notebooks out/site

bench: install
	$(BIN)/python -m benchmarks

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vae_lab needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv out
