PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
CONSTRAINTS = -c constraints.txt

.PHONY: demo test lint docs fuzz clean

demo: $(VENV)/.installed  ## SkeletonMAE from pre-training to report on generated data
	$(BIN)/skelgraph run recipes/skeletonmae_finegym.yaml --demo

test: $(VENV)/.installed-dev  ## the whole suite but what is marked slow
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs  ## the pages and the reference as a site in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

FUZZ_MINUTES ?= 10

fuzz: $(VENV)/.installed-dev  ## damaged files for every parser, so many minutes each; counts go to fuzz.csv
	FUZZ_MINUTES=$(FUZZ_MINUTES) FUZZ_LOG=fuzz.csv $(BIN)/python -m pytest -k fuzz \
		tests/data/test_hostile.py tests/data/test_hostile_stores.py

$(VENV)/.torch:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "skelgraph needs Python 3.11 or newer; make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) runs build/site
