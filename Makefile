# Two commands: `make demo` runs the main job, `make test` passes the tests. Both set up first.

# The newest Python from 3.11 to 3.14 that can make an environment; PYTHON=... names another.
fitting = import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
candidates = python3.14 python3.13 python3.12 python3.11 python3 python
PYTHON ?= $(shell for each in $(candidates); do $$each -c "$(fitting)" 2>/dev/null && echo $$each && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The environment is made anew when a lock file or the package's description changes. Its bytecode is
# compiled at once: every rank of every job imports torch, and where Python may not write bytecode
# (PYTHONDONTWRITEBYTECODE) each would compile it for itself, which takes longer than the import.
LOCKS := requirements/tools.txt requirements/dev.txt pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help setup demo docs test test-cluster test-kfp lint lock bench clean pipelines

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## A virtual environment from the pinned and hashed lock files

$(READY): $(LOCKS)
	@$(or $(PYTHON),false) -c "$(fitting)" 2>/dev/null || { \
	  echo "dkd needs Python 3.11 to 3.14 with venv: apt install python3-venv (Debian 12, 13, Ubuntu 24.04), or PYTHON=/path/to/python"; exit 1; }
	@echo "setting up $(VENV) (about 6 GB with PyTorch; once)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q src components pipelines
	@touch $@

demo: $(READY) ## Learn pictograms step by step; ends with a table and a report
	$(BIN)/dkd run demo --all-variants --jobs 2 --workspace build/demo

lint: $(READY) ## Style, format, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports --no-cache --no-logo
	@if command -v actionlint >/dev/null; then actionlint; else echo "workflows not checked: no actionlint"; fi

test: lint ## Style, format, types, layers and the whole test suite
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

docs: $(READY) ## The handbook as a site in build/site; links that lead nowhere are errors
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=src $(BIN)/mkdocs build --quiet --strict

pipelines: $(READY) ## Every published scenario as KFP YAML in build/pipelines (LAUNCHER_IMAGE, TRAINING_IMAGE)
	DKD_LAUNCHER_IMAGE="$(LAUNCHER_IMAGE)" DKD_TRAINING_IMAGE="$(TRAINING_IMAGE)" $(BIN)/dkd compile --all build/pipelines

REGISTRY ?= localhost:5000

test-cluster: $(READY) ## Tests on the cluster of KUBECONFIG, with images pushed to REGISTRY
	@$(BIN)/kubectl version >/dev/null 2>&1 || { echo "skipped: KUBECONFIG names no cluster that answers"; exit 0; }; \
	docker/build.sh $(REGISTRY) $(BUILD_ARGUMENTS) && DKD_TEST_IMAGES=build/images $(BIN)/pytest -v -rs tests/cluster $(ONLY)

test-kfp: $(READY) ## Tests on the Kubeflow Pipelines of DKD_KFP_ENDPOINT, with the images that test-cluster pushed
	DKD_TEST_IMAGES=build/images $(BIN)/pytest -v -rs tests/kfp $(ONLY)

bench: $(READY) ## Every figure of speed beside its baseline, in build/bench.json too (about 10 minutes)
	$(BIN)/python -m benchmarks

lock: ## Write the lock files anew
	$(BIN)/uv pip compile requirements/tools.in $(LOCK_OPTIONS) -o requirements/tools.txt
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev $(LOCK_OPTIONS) -o requirements/dev.txt
	$(BIN)/uv pip compile pyproject.toml --extra train -c requirements/dev.txt $(LOCK_OPTIONS) -o requirements/training.txt
	$(BIN)/uv pip compile pyproject.toml --extra pipelines --extra registry -c requirements/dev.txt $(LOCK_OPTIONS) -o requirements/launcher.txt
	$(BIN)/uv pip compile pyproject.toml --extra serving -c requirements/dev.txt $(LOCK_OPTIONS) -o requirements/serving.txt

LOCK_OPTIONS := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

clean: ## Remove what was built; the environment stays
	rm -rf build dist
