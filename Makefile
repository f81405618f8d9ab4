# Every target sets up its own .venv on first use, and again when pyproject.toml or constraints.txt change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
# Without an NVIDIA driver torch comes from its CPU build, a tenth of the size.
TORCH_INDEX := $(if $(shell command -v nvidia-smi),,--extra-index-url https://download.pytorch.org/whl/cpu)

.PHONY: demo test bench bench-gpu lint clean

demo: $(VENV)/.installed
	$(BIN)/intraop-recon demo

# A file's tests stay together, as they share a desktop or a case; files are begun in the order of Testing/conftest.py.
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

bench: $(VENV)/.installed-bench
	$(BIN)/python -m Testing.benchmarks.run

# With an NVIDIA card: the scenes, a large case and the kernels on the CPU and on the card.
bench-gpu: $(VENV)/.installed-bench-gpu
	$(BIN)/python -m Testing.benchmarks.gpu

lint: $(VENV)/.installed
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pre-commit run --all-files --show-diff-on-failure

clean:
	rm -rf $(VENV) build dist demo-output IntraopRecon/*.egg-info .pytest_cache .hypothesis .ruff_cache

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else \
		"SparseAnatomy needs Python 3.11 to 3.13, and $(PYTHON) is " + sys.version.split()[0] + ". Say which to use: make PYTHON=python3.12")'
	@echo "Setting up $(VENV) (once, some minutes) ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) --no-deps --retries 2 $(TORCH_INDEX) torch
	$(PIP) -e '.[host,test]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) -e '.[bench]'
	@touch $@

$(VENV)/.installed-bench-gpu: $(VENV)/.installed-bench
	$(PIP) -e '.[cuda]'
	@touch $@
