PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: help demo test lint oldest newest clean

help:
	@echo "make demo   install into .venv (once) and run the demo on the digits"
	@echo "make test   install into .venv (once) and run every check"
	@echo "make lint   only ruff and mypy"
	@echo "make oldest the tests with the oldest releases of everything that is allowed (6 GB in .venv-oldest)"
	@echo "make newest the tests with the newest ones (6 GB in .venv-newest)"
	@echo "make clean  remove these environments and everything that was built"

demo: $(READY)
	$(BIN)/condense demo

test: lint
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "condense needs Python 3.11 or newer; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	touch $@

oldest:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "the oldest releases need Python 3.11; set PYTHON=...")'
	test -x $(VENV)-oldest/bin/python || $(PYTHON) -m venv $(VENV)-oldest
	$(PYTHON) .ci/oldest.py > $(VENV)-oldest/oldest.txt
	$(VENV)-oldest/bin/python -m pip install --disable-pip-version-check --quiet --constraint $(VENV)-oldest/oldest.txt --editable '.[dev]'
	$(VENV)-oldest/bin/python -m pytest

newest:
	test -x $(VENV)-newest/bin/python || $(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --disable-pip-version-check --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	$(VENV)-newest/bin/python -m pytest

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest build dist *.egg-info demo .pytest_cache .mypy_cache .ruff_cache
