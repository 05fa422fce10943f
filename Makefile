# `make demo` and `make test` need Python 3.11 or later, make and git; the rest is set up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
READY := $(VENV)/.ready

export UV_PYTHON_DOWNLOADS = never
# Trust what the machine trusts, as pip does: company proxies have certificates of their own.
export UV_SYSTEM_CERTS = 1

.PHONY: demo check test lint docs notebooks bench bench-scale lock clean

demo: $(READY)
	$(BIN)/xr-terramind demo

# The developer's loop: all tests that run in one process and without TerraTorch, but for wide tables
# of inputs; a file at a time in each of two workers, so that fixtures of a module are made once.
WITHIN := -n 2 --dist loadfile --ignore tests/outside --ignore tests/parity

check: lint
	$(BIN)/python -m pytest $(WITHIN) -m "not wide"

# The same tests with the oldest versions that pyproject.toml promises, on the oldest Python: each
# bound as low as it says, what those ask for as new as it comes, as for a user who upgrades.
LOWEST := .venv-lowest
OLDEST := $(LOWEST)/requirements.txt

# What old versions say of new ones is theirs to mend; that sizes changed, NumPy itself silences.
.PHONY: check-lowest
check-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest $(WITHIN) -m "not wide" -W default::DeprecationWarning \
		-W default::PendingDeprecationWarning -W "ignore:numpy.ndarray size changed:RuntimeWarning"

# diffusers, which TerraTorch brings along, is held back: recent ones would lift the bounds of
# huggingface_hub and safetensors.
$(LOWEST)/.ready: $(UV) pyproject.toml
	$(UV) venv --quiet --clear --python 3.11 $(LOWEST)
	echo "diffusers<0.35" > $(LOWEST)/constraints.txt
	$(UV) pip compile --quiet pyproject.toml --extra cluster --extra openvino --extra vector \
		--resolution lowest-direct --constraint $(LOWEST)/constraints.txt \
		--python $(LOWEST)/bin/python -o $(OLDEST)
	$(UV) pip install --quiet --compile-bytecode --python $(LOWEST)/bin/python \
		--requirement $(OLDEST) h5netcdf hypothesis ipython obstore pytest pytest-xdist
	$(UV) pip install --quiet --python $(LOWEST)/bin/python --no-deps --editable .
	touch $(LOWEST)/.ready

# Everything, once. Clusters, processes to be killed, notebooks and TerraTorch's largest models use
# both cores by themselves.
test: $(READY)
	$(BIN)/python -m pytest $(WITHIN)
	$(BIN)/python -m pytest tests/outside tests/parity

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# -E reads every page, so that no warning is lost to an earlier run.
docs: $(READY)
	$(BIN)/sphinx-build -W --keep-going -n -E -q -b html docs docs/_build/html

# Runs the notebooks as the tests do, and stores what they show.
notebooks: $(READY)
	$(BIN)/python -m tests.support.notebooks

bench: $(READY)
	$(BIN)/python tests/benchmarks/page.py

bench-scale: $(READY)
	$(BIN)/python tests/benchmarks/resume.py
	$(BIN)/python tests/benchmarks/cluster.py
	$(BIN)/python tests/benchmarks/seams.py
	$(BIN)/python tests/benchmarks/ways.py

$(UV):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "found Python %d.%d; expected 3.11 or later. Name one with: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# The lock makes every machine the same; the package itself is installed editable on top of it.
$(READY): $(UV) requirements.lock pyproject.toml
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --requirement requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $(READY)

lock: $(UV)
	$(UV) pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --upgrade -o requirements.lock

clean:
	rm -rf $(VENV) $(LOWEST) demo dist docs/_build docs/notebooks .pytest_cache .mypy_cache .ruff_cache .hypothesis
