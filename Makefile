# The two commands that matter: `make demo` and `make test`. Both set everything up first, in .venv.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
# More arguments for pip. Without a GPU, PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" saves gigabytes.
PIP_ARGS ?=
# More arguments for pytest.
TEST_ARGS ?=
WORKERS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed
SOURCES := attune tests benchmarks examples recipes docs

# Tiny models are slower on many threads, most of all beside a second worker.
test check torture fast: export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test check lint fast fix bench torture docs system

help: ## What there is.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(STAMP) ## Everything a user and the tests need, in .venv.

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "attune needs Python 3.11, 3.12 or 3.13: none was found (or say make PYTHON=...)"; exit 5; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt torch
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[dev,offline,hub,track]'
	touch $@

demo: install ## The main job on the example data: tune the bundled model, compare it with every baseline, write the report.
	$(BIN)/attune run examples/claims/train.csv --test examples/claims/test.csv --target claim_type \
		--goal "classify workers' compensation notes" --budget 8m

test: install ## Every test that can run on this machine; ends with the skips by reason.
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q --durations=10 $(TEST_ARGS)

check: lint fast ## What to run before a commit: lint, types, fast tests.

lint: install ## ruff and mypy.
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

fast: install ## The fast tests.
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q -m "not slow and not torture and not gpu" $(TEST_ARGS)

fix: install ## Let ruff put right what it can.
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: install ## Speed beside TRL; reading, data desk, leaks, privacy. The other benchmarks/*.py say how they are run.
	$(BIN)/python benchmarks/throughput.py --mode lora
	$(BIN)/python benchmarks/throughput.py --mode full
	$(BIN)/python benchmarks/data_rows.py
	$(BIN)/python benchmarks/desk.py
	$(BIN)/python benchmarks/leaks.py
	$(BIN)/python benchmarks/privacy.py

torture: install ## Tests that kill, corrupt and starve.
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q -m torture $(TEST_ARGS)

docs: install ## Write the generated pages of docs/ again.
	$(BIN)/python docs/make.py

system: ## Debian packages that some tests use where present (root): chromium, strace. Never needed.
	apt-get update
	apt-get install -y --no-install-recommends chromium strace
