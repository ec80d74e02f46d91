# SPDX-License-Identifier: BSD-3-Clause
# The same targets serve the desk, the hooks (.pre-commit-config.yaml) and CI (.ci/run).
# "make help" lists them. Each environment is built once and again only when pyproject.toml or its
# constraints change.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

VENV := .venv
comma := ,
ARGS ?=

# One thread per process: tests run the same on every machine, and n_jobs does not oversubscribe.
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
PIP := -m pip install --quiet --disable-pip-version-check

# A process for each CPU; whole files, so that few of them compile the same functions.
PARALLEL := -n auto --dist loadfile

# First interpreter of a list that runs and whose version passes the test.
pick = $(firstword $(foreach p,$(1),$(shell $(p) -c 'import sys; print("$(p)") if $(2) else None' 2>/dev/null)))
PYTHONS := python3 python3.11 python3.12 python3.13 python3.14 python

# Looked up when an environment is to be built, not in every run. The command line may set either.
PYTHON ?= $(call pick,$(PYTHONS),sys.version_info >= (3, 11))
# The oldest dependencies have wheels for the oldest Python only.
FLOOR_PYTHON ?= $(call pick,python3.11 python3,sys.version_info[:2] == (3, 11))

# $(call environment,NAME,PYTHON,TEST OF THE VERSION,WHAT IT MUST BE,VARIABLE)
define environment
	@test -n "$(2)" || { echo "error: no Python $(4) found; name one: make $(5)=/path/to/python" >&2; exit 1; }
	@"$(2)" -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if $(3) else f"error: $(2) is Python {v}; Python $(4) is needed: make $(5)=/path/to/python")'
	@echo "Building $(VENV)/$(1) with $$("$(2)" --version)"
	@rm -rf $(VENV)/$(1)
	@"$(2)" -m venv $(VENV)/$(1)
endef

# $(call install,NAME,TITLE,ARGUMENTS OF PIP)
install = @echo "  installing $(2)"; SECONDS=0; $(VENV)/$(1)/bin/python $(PIP) $(3) && echo "    done in $${SECONDS} s"

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20
	@echo
	@echo "  PYTHON=...        interpreter to build with (3.11 or newer)"
	@echo "  ARGS=...          passed on to the demo, to pytest or to the benchmark"
	@echo "  SKSMOOTH_DATA=... folder with local copies of the data sets"

# --- environments ---------------------------------------------------------------------------------

$(VENV)/demo/.installed: pyproject.toml constraints/latest.txt
	$(call environment,demo,$(PYTHON),sys.version_info >= (3, 11),3.11 or newer,PYTHON)
	$(call install,demo,the package and [plot],-c constraints/latest.txt -e ".[plot]")
	@touch $@

# torch goes first and alone: constraints/latest.txt asks for one exact version of it, and with it
# in place nothing that needs torch can pull in another build.
$(VENV)/test/.installed: pyproject.toml constraints/latest.txt
	$(call environment,test,$(PYTHON),sys.version_info >= (3, 11),3.11 or newer,PYTHON)
	$(call install,test,torch,-c constraints/latest.txt torch)
	$(call install,test,the package and every extra,-c constraints/latest.txt -e ".[torch$(comma)plot$(comma)dask$(comma)test$(comma)doc]")
	@touch $@

$(VENV)/floor/.installed: pyproject.toml constraints/floor.txt
	$(call environment,floor,$(FLOOR_PYTHON),sys.version_info[:2] == (3, 11),3.11,FLOOR_PYTHON)
	$(call install,floor,the oldest supported dependencies,-c constraints/floor.txt -e ".[plot$(comma)test]")
	@touch $@

# --- the two commands -----------------------------------------------------------------------------

.PHONY: demo
demo: demo-says $(VENV)/demo/.installed ## example on e-mails, in an environment of its own
	$(VENV)/demo/bin/python examples/spam_filter.py $(ARGS)

.PHONY: demo-says
demo-says:
	@echo "make demo: builds $(VENV)/demo if it is not there (the package and matplotlib, no torch),"
	@echo "           then runs examples/spam_filter.py $(ARGS)"

.PHONY: test
test: test-says lint types doctest pytest ## everything: all extras, then lint, types, doctests, tests

.PHONY: test-says
test-says:
	@echo "make test: builds $(VENV)/test if it is not there (every extra; torch is the large one),"
	@echo "           then checks style, types and the examples in docstrings, then runs all tests"

# --- parts of them --------------------------------------------------------------------------------

.PHONY: test-floor
test-floor: $(VENV)/floor/.installed ## doctests and core tests on the oldest supported dependencies
	$(THREADS) $(VENV)/floor/bin/python -m pytest $(PARALLEL) --doctest-modules sksmooth
	$(THREADS) $(VENV)/floor/bin/python -m pytest $(PARALLEL) -m "not slow" $(ARGS)

.PHONY: lint
lint: $(VENV)/test/.installed ## ruff: rules and format
	$(VENV)/test/bin/ruff check .
	$(VENV)/test/bin/ruff format --check .

.PHONY: types
types: $(VENV)/test/.installed ## mypy (strict on the maths layer)
	$(VENV)/test/bin/mypy

.PHONY: doctest
doctest: $(VENV)/test/.installed ## the examples in docstrings
	$(THREADS) $(VENV)/test/bin/python -m pytest $(PARALLEL) --doctest-modules sksmooth

.PHONY: pytest
pytest: $(VENV)/test/.installed ## the tests alone, e.g. ARGS="tests/smoothing -m 'not slow'"
	$(THREADS) $(VENV)/test/bin/python -m pytest $(PARALLEL) $(ARGS)

.PHONY: coverage
coverage: $(VENV)/test/.installed ## the tests, with the lines that none of them reaches
	$(THREADS) $(VENV)/test/bin/python -m pytest --cov --cov-report=term-missing $(ARGS)

.PHONY: format
format: $(VENV)/test/.installed ## mends style where ruff can
	$(VENV)/test/bin/ruff check --fix .
	$(VENV)/test/bin/ruff format .

.PHONY: bench
bench: $(VENV)/test/.installed ## every benchmark, or ARGS=benchmarks/bench_import.py
	@set -e; for script in $(or $(ARGS),$(wildcard benchmarks/bench_*.py)); do \
	  echo "== $$script"; $(THREADS) $(VENV)/test/bin/python "$$script"; done

.PHONY: doc
doc: $(VENV)/test/.installed ## the documentation, in doc/_build/html; warnings are errors
	$(THREADS) $(VENV)/test/bin/python -m sphinx -q -W --keep-going -b html doc doc/_build/html

.PHONY: clean
clean: ## removes the environments and every cache
	rm -rf $(VENV) build dist doc/_build doc/auto_examples doc/generated *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
