# Each target does its own set-up. The set-up is done once, and again when what it reads changes.

# the first Python of these that runs and is new enough; `make PYTHON=/path/to/python test` overrides
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench docs clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    train on simulated students: the first run, a few minutes"
	@echo "make test    lint, types and every test"
	@echo "make lint    lint and types alone"
	@echo "make format  put the code in its canonical form"
	@echo "make bench   speed and memory, ours and others', the short form: some minutes on two cores"
	@echo "make docs    build the documentation into site/, running its notebook"
	@echo "make clean   remove what was built; never touches experiments/"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@if ! $(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null; then \
		if [ -z "$(PYTHON)" ]; then \
			echo "Python 3.11 or newer is needed and none was found; install one, or name it:" >&2; \
			echo "    make PYTHON=/path/to/python3.11 test" >&2; \
			exit 1; \
		fi; \
		echo "making $(VENV) with $(PYTHON)"; \
		$(PYTHON) -m venv --clear $(VENV) || { \
			echo "could not make $(VENV); on Debian and Ubuntu, install python3-venv" >&2; \
			exit 1; \
		}; \
	fi
	@echo "installing GainAKT and what it needs into $(VENV); this is done once"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/gainakt train --config quickstart
	@echo "the command line is $(BIN)/gainakt; to type gainakt alone: . $(BIN)/activate"

test: lint
	$(BIN)/pytest -n 2

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# on ASSISTments 2015 where GAINAKT_DATA names the folder that has it, else on simulated students
bench: $(READY)
	$(BIN)/python bench/peers.py --models dkt sakt akt_1_block --steps 3
	$(BIN)/python bench/reference.py --steps 2 --sample 16
	$(BIN)/python bench/hotspots.py --steps 4
	$(BIN)/python bench/scale.py --interactions 70000 700000 --rounds 1

docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "the documentation is in site/index.html"

$(DOCS_READY): $(READY)
	@echo "installing what builds the documentation into $(VENV); this is done once"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf *.egg-info bench/.venvs
	find gainakt tests bench configs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
