# Licensed under the Apache License, Version 2.0. See LICENSE.
#
# `make demo` and `make test` need Python 3.10-3.12 and a C++ compiler, nothing
# else: what they run in is set up in VENV the first time.

# The first Python that is there, runs and has a version that fits.
PYTHON ?= $(or $(shell for python in python3 python3.12 python3.11 python3.10 python; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	>/dev/null 2>&1 && echo $$python && break; done),python3)

# Whose mmdet, mmcv and mmengine: openmmlab, or onedl, the maintained forks.
STACK ?= openmmlab
VENV ?= .venv$(if $(filter-out openmmlab,$(STACK)),-$(STACK))

# ENV_PYTHON names the Python of an environment of your own that has torch, mmcv
# with ops, mmdet and this package: it is used as it is, nothing is installed.
ifdef ENV_PYTHON
RUN := $(ENV_PYTHON)
READY :=
else
RUN := $(VENV)/bin/python
READY := $(VENV)/.complete
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint format docs dist clean

help:  ## Show this help
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1@\2/p' $(firstword $(MAKEFILE_LIST)) \
		| awk -F@ '{ printf "%-17s %s\n", $$1, $$2 }'
	@echo
	@echo '  STACK=onedl      with the maintained forks of mmdet, mmcv and mmengine'
	@echo '  VENV=path        where the environment is or shall be ($(VENV))'
	@echo '  PYTHON=path      the Python to make it with'
	@echo '  ENV_PYTHON=path  run in a complete environment of your own instead'
	@echo '  MAX_JOBS=n       how many compilers run at once (as many as fit)'

setup: $(READY)  ## Set up the environment only

demo: $(READY)  ## Train, test and draw the small model on the toy data set
	$(RUN) demo/run_demo.py

test: $(READY)  ## Run all tests and the doctests
	$(RUN) -m pytest

test-fast: $(READY)  ## Run those that are not slow
	$(RUN) -m pytest -m 'not slow'

lint: $(READY)  ## Check format, style, docstrings and types
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

format: $(READY)  ## Put the code into format and mend what can be mended
	$(RUN) -m ruff check --fix-only .
	$(RUN) -m ruff format .

docs: $(READY)  ## Build the documentation site into build/docs
	$(RUN) -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	@echo 'The site is build/docs/index.html'

dist:  ## Build the sdist and the wheel into dist/ and check them
	$(PYTHON) -m venv build/tools
	build/tools/bin/pip install --quiet build==1.6.1 twine==7.0.0
	build/tools/bin/python -m build
	build/tools/bin/twine check --strict dist/*

clean:  ## Remove caches and builds, but not the environment or data
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name '.?*' -prune -o -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.complete: $(wildcard requirements/*.txt) tools/setup_env.py
	@$(PYTHON) tools/setup_env.py --venv $(VENV) --stack $(STACK)
