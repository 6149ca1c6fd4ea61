# One task runner. `make demo` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
VERSIONS ?= 3.12 3.13 oldest

.PHONY: help demo test coverage lint bench conformance test-versions clean system-packages page-check page-mend

help:
	@echo "make demo           install and run the digits grid search on real data"
	@echo "make test           install everything, then lint, types and all tests"
	@echo "make coverage       all tests, and the lines and branches they do not reach"
	@echo "make test-versions  the core suite on other Pythons, the adapters on oldest frameworks"
	@echo "make conformance    the frameworks' own tests, with casket in them, and other trackers and notebooks (9 minutes)"
	@echo "make lint           format and lint, mending what can be mended; write docs/cli.md anew"
	@echo "make bench          measure speed against floors of the same run"
	@echo "make clean          remove what the others made"

.venv/made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "casket needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

PAGE := casket/dashboard/web
VENDORED := hatch_build.py $(PAGE)/package-lock.json $(wildcard $(PAGE)/libraries/*.js)

.venv/demo: .venv/made pyproject.toml $(VENDORED)
	$(BIN)/python -m pip install --quiet --editable . --group examples
	@touch $@

.venv/tests: .venv/made pyproject.toml $(VENDORED)
	$(BIN)/python -m pip install --quiet --editable . --group tests
	@touch $@

demo: .venv/demo
	$(BIN)/python examples/grid_search_digits.py runs.json

# More workers than cores, since tests often wait: for servers, timeouts and the disk.
WORKERS ?= 3
# The files of the tests lie in memory if 4 GB are free there, since waiting for the disk is a third of
# the suite's time. Tests of full disks and of other file systems mount their own.
SCRATCH ?= $(shell df -Pk /dev/shm 2>/dev/null | awk -v at="$(CURDIR)" \
	'NR == 2 && $$4 > 4000000 { gsub("/", "-", at); print "/dev/shm/casket-tests" at }')
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal \
	$(if $(SCRATCH),--basetemp=$(SCRATCH))

# Thousands of processes import the package, which would each compile it where this is set.
test coverage: export PYTHONDONTWRITEBYTECODE =

test: system-packages .venv/tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory page-check
	$(PYTEST)

# Apart from `make test`, because measuring makes the suite a third slower. A store whose server is
# not installed is neither tested nor counted.
coverage: export WITHOUT_SSHD = $(if $(wildcard /usr/sbin/sshd),,casket/stores/sftp/*.py)
coverage: export WITHOUT_POSTGRES = $(if $(wildcard /usr/lib/postgresql/*/bin/initdb),,casket/stores/postgres.py)
coverage: system-packages .venv/tests
	$(PYTEST) --cov --cov-report term-missing:skip-covered

lint: .venv/tests
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy
	$(BIN)/python -m tests.cli.reference
	@$(MAKE) --no-print-directory page-mend

# The page's JavaScript: eslint, and the types in its comments by TypeScript.
page-check page-mend: page-%: .venv/made
	@if ! command -v npm >/dev/null; then echo "npm is not installed: the page's JavaScript is not checked"; \
	else $(MAKE) --no-print-directory .venv/page && npm --prefix $(PAGE) run --silent $*; fi

.venv/page: $(PAGE)/package-lock.json
	npm --prefix $(PAGE) ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Each framework in a process of its own, as a training is.
CORE_BENCHMARKS := writing journal growth cold-start starts checksums import reading listing command-line memory capturing
bench: .venv/tests
	@status=0; for names in "$(CORE_BENCHMARKS)" sklearn keras lightning frameworks dashboard watched; do \
	  $(BIN)/python -m tests.benchmarks $$names || status=1; done; exit $$status

# Large frameworks, apart from the environment of the tests, which has what else they need.
LARGE := catboost graphviz ray msgpack jsonschema jsonschema-specifications referencing rpds-py \
  fastai fastcore fastdownload "fastprogress<1.1" fasttransform plum-dispatch beartype \
  dask distributed toolz locket partd zict tblib sortedcontainers fsspec cloudpickle \
  "importlib-metadata<8.8" zipp statsmodels patsy torch_geometric xxhash
.venv/large: .venv/tests
	$(BIN)/python -m pip install --quiet --no-deps --target $@ $(LARGE)

# The part that takes under two minutes is in `make test`: tests/conformance/test_conformance.py.
# The trackers whose scripts run with one import changed, apart from all other packages.
.venv/trackers: .venv/tests
	$(BIN)/python -m pip install --quiet --target $@ wandb mlflow-skinny sqlalchemy alembic sqlparse numpy

conformance: .venv/tests .venv/large .venv/trackers
	PYTHONPATH=$(CURDIR)/.venv/large $(BIN)/python -m pytest -q -k "catboost or ray-tune or fastai or dask or statsmodels or geometric" \
	  tests/integrations/test_frameworks.py tests/integrations/test_one_liners.py \
	  tests/integrations/test_xgboost_dask.py tests/test_readme.py
	$(BIN)/python -m pytest -c /dev/null -q --disable-warnings -p tests.conformance.sklearn_search \
	  --pyargs sklearn.model_selection.tests.test_search \
	  sklearn.model_selection.tests.test_successive_halving
	KERAS_BACKEND=torch $(BIN)/python -m pytest -c /dev/null --noconftest -q --disable-warnings \
	  -p tests.conformance.keras_callbacks
	TRACKERS=$(CURDIR)/.venv/trackers $(BIN)/python -m pytest -q tests/conformance/test_trackers.py
	$(BIN)/python -m pip install --quiet --group notebooks
	$(BIN)/python -m pytest -q tests/dashboard/test_notebook_pages.py

test-versions: system-packages
	$(PYTHON) tests/run_versions.py $(VERSIONS)

clean:
	rm -rf .venv .venv-* .coverage* .mypy_cache .pytest_cache .ruff_cache build dist htmlcov runs.json*

# System packages that the tests use. A test whose tool is missing is skipped by name.
# SYSTEM_PACKAGES=no installs none.
SYSTEM_PACKAGES ?= yes
system-packages:
	@missing=""; for tool in chromium git jq strace; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	[ -x /usr/sbin/sshd ] || command -v sshd >/dev/null || missing="$$missing openssh-server"; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	if [ -n "$$missing" ]; then \
	  if [ "$(SYSTEM_PACKAGES)" != no ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing with apt-get:$$missing (SYSTEM_PACKAGES=no leaves them alone)"; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing \
	      || echo "could not be installed, tests that need them are skipped:$$missing"; \
	  else echo "not installed, tests that need them are skipped:$$missing"; fi; fi
