# Every target makes .venv from requirements.lock first when that is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-full torture check format bench proof lock clean

help: ## say what each target does
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(READY) ## make .venv with everything in it (the command is .venv/bin/firehose)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "firehose needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	@echo 'Making $(VENV): a minute or two'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## the main job, end to end, in a minute
	$(BIN)/python demo/demo.py

test: $(READY) ## the tests (at most 30 minutes)
	PYTHONHASHSEED=0 $(BIN)/pytest -q -n 2 --dist loadgroup -m "not slow"

test-full: $(READY) ## all tests, the long ones too (at most 90 minutes)
	SEEDS=0:10000 KILLS=200 PYTHONHASHSEED=0 $(BIN)/pytest -q -n 2 --dist loadgroup

SEEDS ?= 10000:40000
torture: $(READY) ## a thousand kills, and worlds that nobody has looked at (SEEDS=10000:40000); hours
	SEEDS=$(SEEDS) KILLS=1000 PYTHONHASHSEED=0 $(BIN)/pytest -q -n 2 --dist loadgroup tests/simulation/test_town.py tests/integration/test_kill.py

check: $(READY) ## format, lint, strict types, import floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## rewrite the sources in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .

bench: $(READY) ## CPU seconds for each GB of records, stage by stage, beside its bare-kernel floor
	$(BIN)/python -m benchmarks.main

proof: $(READY) ## the main job on logs of yours: ACCESS_LOG=a.gz NGINX_STATUS=b.gz
	$(BIN)/python proof/real_input.py --access-log "$(ACCESS_LOG)" --nginx-status "$(NGINX_STATUS)"

lock: ## write requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --group dev pyproject.toml --generate-hashes --no-emit-index-url --no-header -q -o requirements.lock
	uv pip compile --universal --python-version 3.11 -c requirements.lock pyproject.toml --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o deploy/requirements.lock
	echo 'setuptools>=77' | uv pip compile --universal --python-version 3.11 -c requirements.lock - --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o deploy/build.lock

clean: ## remove what make and the tests made
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .demo
