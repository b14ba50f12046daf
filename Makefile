# Everything that is typed often. `make demo` and `make test` need nothing but Python 3.11+ and make.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PORT   ?= 8501
PIP    := $(PY) -m pip install --disable-pip-version-check --quiet
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo app show check format test bench clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(VENV)/.runtime  ## make .venv with what the app needs

setup-dev: $(VENV)/.dev  ## the same, and what the checks need

$(PY):
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"given: Python {v[0]}.{v[1]} ($(PYTHON)); allowed: 3.11 or newer; next: make setup PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "given: a Python that cannot make environments; allowed: one with venv; next: install it (Debian: apt-get install python3-venv)" >&2; exit 1; }

$(VENV)/.runtime: requirements.txt kdengine/torch_pair.py | $(PY)
	@echo "Installing what the app needs (about a minute and 3 GB the first time)"
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps --editable .  # so that `import kdengine` works in any folder
	@$(PY) -m kdengine.torch_pair
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@$(PIP) -r requirements-dev.txt
	@touch $@

demo: setup  ## queue the demo suite and start the app
	@$(PY) -m kdengine demo --no-follow
	@$(PY) -m kdengine.serve --port $(PORT)

app: setup  ## start the app
	@$(PY) -m kdengine.serve --port $(PORT)

show: $(VENV)-demo/.ready  ## the app over recorded runs: nothing is trained, no torch is needed
	@KD_MODE=demo $(VENV)-demo/bin/python -m kdengine.serve --port $(PORT)

$(VENV)-demo/.ready: requirements-demo.txt
	@$(PYTHON) -m venv $(VENV)-demo
	@$(VENV)-demo/bin/python -m pip install --disable-pip-version-check --quiet -r requirements-demo.txt
	@touch $@

check test: export OMP_NUM_THREADS := 1  # two test processes on two cores

check: setup-dev  ## style, types, fast tests: two to three minutes
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m pytest -q -n 2 --dist worksteal -m "not slow and not browser"

format: setup-dev  ## put the code into its usual form
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

test: setup-dev  ## every test, browser included: about a quarter of an hour on two cores
	@$(PY) -m pytest -n 2 --dist worksteal

bench: setup  ## short forms of the measurements (benchmarks/README.md has the long ones)
	@$(PY) -m benchmarks.query_speed --repeats 5
	@$(PY) -m benchmarks.train_throughput --segments 1 --steps 4 --tries 1

clean:  ## remove what can be made again; runs and results in KD_HOME stay
	rm -rf $(VENV) $(VENV)-demo build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
