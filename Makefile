# Everything starts here. `make` lists what there is to do; every target first brings .venv up to date.
#
#   make env PYTHON=python3.12                                        another Python (3.11 or newer)
#   make env TORCH_INDEX=https://download.pytorch.org/whl/cu130      torch for CUDA 13.0
#   make env TORCH_INDEX=https://download.pytorch.org/whl/cpu        torch for the CPU
#   make env TORCH_INDEX=pip                                         torch from wherever pip looks
#   make test ARGS='tests/laws -k frantar'                           some of the tests

BIN := .venv/bin
PYTHON ?=
TORCH_INDEX ?=
ARGS ?=

unexport PYTHONDONTWRITEBYTECODE  # tests start hundreds of processes, and each would compile the package anew

.DEFAULT_GOAL := help
.PHONY: help env repro test test-fast check smoke dist docs notebooks schemas bench doctor clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: ## create or repair .venv; nothing to do while pyproject.toml and constraints.txt stay the same
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 $(BIN)/python); do \
	    if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec "$$python" scripts/make_env.py \
	            $(if $(PYTHON),--python-chosen) $(if $(TORCH_INDEX),--torch-index '$(TORCH_INDEX)'); \
	    fi; \
	done; \
	echo "Python 3.11 or newer with the venv module is needed; tried: $(or $(PYTHON),python3, python3.11 to 3.14)." >&2; \
	echo "Found: $$($(or $(PYTHON),python3) --version 2>&1). Name another: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
	echo "On Debian and Ubuntu: apt install python3 python3-venv" >&2; \
	exit 1

repro: env ## run every study of params.yaml: specs -> runs -> law, plots, report
	@$(BIN)/sparsity-lab doctor --mend
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro $(ARGS)

test: env ## run all tests, three at a time, since some wait for others' programs, and name the twenty slowest
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist worksteal --durations=20 $(ARGS)

test-fast: env ## run the tests that are not marked slow: for between two edits
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not slow" $(ARGS)

check: env ## lint, format, types, floors, names and changelog; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy scripts $(wildcard benchmarks)
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_names.py
	$(BIN)/python scripts/check_changelog.py

smoke: env ## run the smoke study through DVC in a throw-away clone of HEAD
	scripts/smoke.sh

dist: env ## build wheel and sdist, and try both without a checkout; ARGS=--full: with packages of its own
	$(BIN)/python scripts/make_dist.py $(ARGS)

docs: env ## build the site into site/, which reads without a network; whatever is broken is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

notebooks: env ## run the notebooks of docs/ and write down in them what their cells show; ARGS=FILE: one of them
	OMP_NUM_THREADS=1 $(BIN)/python scripts/run_notebooks.py $(ARGS)

schemas: env ## write what editors check specs with into .schemas/ (.vscode/settings.json)
	@mkdir -p .schemas
	@set -e; for kind in compute dataset hardware law model regime runtime scenario study; do \
	    $(BIN)/sparsity-lab spec schema $$kind > .schemas/$$kind.json; \
	done

bench: env ## run every benchmark in turn
	@set -e; for file in $(sort $(wildcard benchmarks/*.py)); do \
	    echo "== $$file"; OMP_NUM_THREADS=1 $(BIN)/python "$$file"; \
	done

doctor: env ## say what this machine offers
	@$(BIN)/sparsity-lab doctor

clean: ## remove caches; runs, checkpoints, DVC's cache and .venv stay
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist site .sparsity-lab/cache
	find . -name .venv -prune -o -name .git -prune -o -name .dvc -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
