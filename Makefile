# One word for each thing that developers and CI do. Everything runs with the active interpreter: PYTHON=… for another one.

PYTHON ?= python
NOTEBOOKS ?= notebooks/*.ipynb
CODE := lash_nb tests
LINT_IMPORTS := $(PYTHON) -c "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"

.DEFAULT_GOAL := help
.PHONY: help check static format lint types layers spell test coverage browser sandbox local notebooks bench faults prices docs fix wheel

help:  ## this text
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

check: static test  ## everything that needs no browser: what a change must pass

static: format lint types layers spell  ## all of check but the tests

format:  ## is every file formatted?
	$(PYTHON) -m ruff format --check $(CODE)

lint:  ## ruff
	$(PYTHON) -m ruff check $(CODE)

types:  ## mypy, strict
	$(PYTHON) -m mypy

layers:  ## who may import whom (pyproject.toml, tool.importlinter)
	$(LINT_IMPORTS)

spell:  ## codespell
	$(PYTHON) -m codespell_lib $(CODE) notebooks/data *.md Makefile pyproject.toml

test:  ## the tests, without the browser's
	$(PYTHON) -m pytest -n 2 --dist loadfile

coverage:  ## the tests, and which lines they did not reach
	$(PYTHON) -m coverage run -m pytest
	$(PYTHON) -m coverage report

browser:  ## the tests that drive a frontend in Chromium: needs the `browser` extra
	$(PYTHON) -m pytest -n 2 --dist loadfile tests/browser

sandbox:  ## the tests of what runs in the sandbox: needs bubblewrap
	$(PYTHON) -m pytest -n 2 tests/sandbox

local:  ## the tests of the local model's engine: needs the `local` extra and `lash-nb model pull`
	weights=$$($(PYTHON) -m lash_nb.cli model pull) && TEST_WEIGHTS=$$weights $(PYTHON) -m pytest tests/local

notebooks:  ## runs every notebook as a user would (02 needs the local model); the results go to a temporary directory
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && for notebook in $(NOTEBOOKS); do \
		echo "$$notebook"; $(PYTHON) -m lash_nb.cli run "$$notebook" "$$out/$$(basename "$$notebook")" || exit 1; \
	done

bench:  ## the benchmarks; each one's last line is JSON
	$(PYTHON) -m tests.bench.machine --json
	$(PYTHON) -m tests.bench.journal --json
	$(PYTHON) -m tests.bench.roundtrip --json
	$(PYTHON) -m tests.bench.kernel --json
	$(PYTHON) -m tests.bench.limits --json
	$(PYTHON) -m tests.bench.crowd --json
	$(PYTHON) -m tests.bench.view --json
	$(PYTHON) -m tests.bench.local --json

faults:  ## hosts killed at every point, hostile notebooks, floods of output, a crowd of kernels: each one's last line is JSON
	$(PYTHON) -m tests.faults.kill --json
	$(PYTHON) -m tests.faults.attach --json
	$(PYTHON) -m tests.faults.hostile --json
	$(PYTHON) -m tests.faults.flood --json
	$(PYTHON) -m tests.faults.hostile_cells --json
	$(PYTHON) -m tests.faults.escapes --json
	$(PYTHON) -m tests.faults.soak --json
	$(PYTHON) -m tests.faults.nights --json
	$(PYTHON) -m tests.bench.crowd --json

prices:  ## takes the table of prices anew from the installed genai-prices
	$(PYTHON) -m tests.models.price_source

docs:  ## writes the generated parts of the documents anew
	$(PYTHON) -m tests.test_docs

fix:  ## formats, and repairs what ruff can repair
	$(PYTHON) -m ruff check --fix $(CODE)
	$(PYTHON) -m ruff format $(CODE)

wheel:  ## builds the wheel into dist/
	$(PYTHON) -m pip wheel --no-deps --wheel-dir dist .
