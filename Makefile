# All commands of newcomers, contributors and the CI. `make help` lists them.
#
# Requires make, python3 >= 3.11 with its module venv, and a package index. uv does the rest: the one
# on PATH, otherwise one installed into .uv/ of this checkout. The project's environment is .venv/.

.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

UV_VERSION := 0.13.9
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN = $(UV) run --no-sync
SYNCED := .venv/.synced
SANDBOX := $(or $(SANDBOX_DIR),.sandbox)

# The tests wait more than they compute: four processes are faster even on two cores.
TEST_PROCESSES ?= 4

# Use this python3, even if another environment is active.
export UV_PYTHON := python3
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV
# Tests start hundreds of Python processes. Without bytecode each would compile every library again.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo up unit test test-all check chaos fuzz scenarios mutants matrix corpora bench fmt reference dist lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(SYNCED) ## Start everything on this machine and show messages being answered
	@.venv/bin/worker demo

up: $(SYNCED) ## Run worker and Flower in the foreground; embed servers that are not configured
	@.venv/bin/worker up

unit: $(SYNCED) ## Run the pure tests: no server, no child process, seconds
	@$(RUN) pytest -n 2 tests/unit

test: $(SYNCED) ## Run what a change can break; brings its own Postgres, Redis and Telnyx
	@$(RUN) pytest -n $(TEST_PROCESSES) --dist worksteal -m "not slow"

test-all: test ## Run `make test`, then the slow tests
	@$(RUN) pytest -n $(TEST_PROCESSES) --dist worksteal -m slow

check: $(SYNCED) ## Lint, formatting, types, import contracts, migrations
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) pytest tests/migrations

SEED ?= 1
MINUTES ?= 5
chaos: $(SYNCED) ## Inject random faults into real workers and audit the promises (SEED=1 MINUTES=5)
	@$(RUN) python -m tests.chaos.run --seed $(SEED) --minutes $(MINUTES)

N ?= 200000
FIRST ?= 0
fuzz: $(SYNCED) ## Feed damaged inputs of every kind to the service (N=200000 SEED=1 KIND=control)
	@FUZZ_N=$(N) FUZZ_SEED=$(SEED) FUZZ_FIRST=$(FIRST) FUZZ_KIND=$(KIND) \
		$(RUN) pytest -q -s -p no:cacheprovider tests/fuzz

scenarios: $(SYNCED) ## Run the long fault scenarios one after the other (NAME=flushall for one)
	@$(RUN) python -m tests.chaos.scenarios $(NAME)

mutants: $(SYNCED) ## Remove one protection at a time: a test must fail each time
	@$(RUN) python tests/mutants/run.py

matrix: $(SYNCED) ## Run the demo and the fault smoke over other versions of Python, Postgres, Redis
	@$(RUN) python -m tests.matrix.run

CORPORA ?= ../shared/mail-corpora
corpora: $(SYNCED) ## Read other projects' mails and compare with the bars (CORPORA=folder)
	@[ -d "$(CORPORA)" ] || { echo "$(CORPORA) does not exist: set CORPORA to the folder"; exit 1; }
	@MAIL_CORPORA="$$(realpath "$(CORPORA)")" $(RUN) pytest -q -s -p no:cacheprovider \
		tests/unit/email/test_corpora.py

FULL ?=
bench: $(SYNCED) ## Measure speed and size against the bars (FULL=1 for everything, over an hour)
	@$(RUN) python -m bench.run $(if $(FULL),--full)

fmt: $(SYNCED) ## Format the code and apply the linter's fixes
	$(RUN) ruff format
	$(RUN) ruff check --fix

reference: $(SYNCED) ## Regenerate the pages of the commands and of the screening of messages
	@$(RUN) typer worker.cli.app utils docs --name worker --title "The command line" \
		--output docs/reference/cli.md
	@$(RUN) python -m tests.support.screening_page

dist: $(UV) ## Build the wheels and source archives of the service and of the client into dist/
	$(UV) build --all-packages

lock: $(UV) ## Regenerate uv.lock after pyproject.toml has changed
	$(UV) lock

clean: ## Delete what servers, tests and benchmarks left in this folder; stops no process
	@python3 -c 'import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_SH | fcntl.LOCK_NB)' \
		"$(SANDBOX)/lock" 2>/dev/null || [ ! -e "$(SANDBOX)/lock" ] \
		|| { echo "$(SANDBOX) is in use: stop 'worker up' or the demo first"; exit 1; }
	@# Started by root below a folder that others cannot open, Postgres keeps its data behind this link.
	@[ ! -L "$(SANDBOX)/postgres" ] || rm -rf "$$(readlink "$(SANDBOX)/postgres")"
	rm -rf "$(SANDBOX)" .matrix .releases .peers

$(SYNCED): pyproject.toml client/pyproject.toml uv.lock | $(UV)
	@echo "installing the packages of uv.lock into .venv/"
	@$(UV) sync --quiet --locked --all-extras
	@touch $@

.uv/bin/uv:
	@command -v python3 >/dev/null || { echo "python3 is not on PATH: install Python 3.11 or newer"; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; python3 is $$(python3 --version)"; exit 1; }
	@echo "installing uv $(UV_VERSION) into .uv/"
	@python3 -m venv .uv || { echo "python3 has no working venv: install it (Debian: python3-venv)"; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
