# Verbs of the project; CI calls only these. Everything happens in .venv/ of this checkout.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo tensorflow test check device-test table bench-peers measure-int8 lint format clean

help: ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.runtime ## convert the embedded network for every target, verify, matte the samples
	$(BIN)/python -m mobile_matting_export.demo --output build

tensorflow: $(VENV)/.tensorflow ## add the second converter, --backend onnx2tf

test: $(VENV)/.tests ## all tests, with the real converters and runtimes, two at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=worksteal --durations=15

check: $(VENV)/.tests ## the quick tests: no converter, no TensorFlow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 -m "not toolchain and not tensorflow and not vulkan"

device-test: $(VENV)/.tests ## the phone side against the real adbd, with a program for phones under qemu (root, Debian)
	OMP_NUM_THREADS=1 $(BIN)/python tests/real_adbd/run_device_tests.py

table: $(VENV)/.runtime ## the papers' tables again, into docs/results.md (needs ../shared)
	$(BIN)/python -m models.results --write

bench-peers: $(VENV)/.runtime ## our files beside other converters', into docs/results.md (needs ../shared)
	OMP_NUM_THREADS=1 $(BIN)/python -m models.bench_peers --write

measure-int8: $(VENV)/.runtime ## what int8 keeps and gains on five networks, into docs/results.md (needs ../shared)
	OMP_NUM_THREADS=1 $(BIN)/python -m models.measure_int8 --write

lint: $(VENV)/.tests ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.tests ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what the verbs made
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache

# torch first and exactly: a range in another package would take the newest build, CUDA and all
$(VENV)/.torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("mmexport needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@echo "installing PyTorch and the converters into $(VENV): some minutes without a word"
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	touch $@

$(VENV)/.runtime: $(VENV)/.torch pyproject.toml
	$(PIP) --editable .
	touch $@

$(VENV)/.tensorflow: $(VENV)/.runtime
	$(PIP) --editable '.[tensorflow]'
	touch $@

$(VENV)/.tests: $(VENV)/.tensorflow
	$(PIP) --editable '.[dev]'
	touch $@
