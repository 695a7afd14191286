# Two commands do everything on a fresh machine with Python 3.11+ (venv), make and git: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test docs links gpu-kit lint clean

demo: .venv/installed  ## run the main job on a simulated Landsat scene; nothing is downloaded but packages
	$(BIN)/lacunar demo --overwrite --output out/demo
	@echo "the same in the browser: $(BIN)/lacunar serve --root out/demo"

test: .venv/installed-dev  ## lint, types and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

docs: .venv/installed-docs  ## the site, warnings as errors, and its spelling: docs/_build/html/index.html
	$(BIN)/codespell
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

links: .venv/installed-docs  ## every address that the site names answers; wants the internet
	$(BIN)/python -m sphinx -q -b linkcheck -D plot_gallery=0 docs docs/_build/links

DATA ?= ../shared/data
gpu-kit: .venv/installed-dev  ## what a bare machine with a GPU needs to train for minutes: out/gpu-kit/run.sh
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train]'
	PYTHONPATH=benchmarks $(BIN)/python -m gpu_kit.pack --data $(DATA)

lint: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

# torch first and pinned: with it in place nothing pulls another build of it.
.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[serve]'
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf .venv out build dist docs/_build docs/auto_tutorials docs/generated
