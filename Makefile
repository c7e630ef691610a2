# Two commands: `make demo` (install, learn, report) and `make test` (install, test suite). `make lint` checks the code.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format clean
demo: .venv/.core
	"$(BIN)/apercu" demo -o demo-output

test: .venv/.dev
	"$(BIN)/python" -m pytest -n 2 --dist worksteal

lint: .venv/.dev
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

format: .venv/.dev
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

.venv/bin/python:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "There is no \"$(PYTHON)\" here. Install Python 3.11 or newer, or name it: make PYTHON=python3.12"; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Apercu needs Python 3.11 or newer, and \"$(PYTHON)\" is $$("$(PYTHON)" --version 2>&1)." \
	       "Install a newer one and name it: make PYTHON=python3.12"; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip' || { \
	  echo "This Python cannot make virtual environments; on Debian: apt install python3-venv"; exit 2; }
	"$(PYTHON)" -m venv .venv

.venv/.core: pyproject.toml constraints.txt | .venv/bin/python
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@ .venv/.core

clean:
	rm -rf .venv demo-output
