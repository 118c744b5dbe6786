# Two commands for a fresh machine with Python 3.11 to 3.13: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := .demo

.PHONY: demo test test-numeric lint docs clean

demo: $(INSTALLED)
	mkdir -p $(DEMO)
	test -d $(DEMO)/data || (cd $(DEMO) && $(BIN)/toolkit demo data)
	cd $(DEMO) && $(BIN)/toolkit train-all --recipes demo --threads 1
	cd $(DEMO) && $(BIN)/toolkit export
	cd $(DEMO) && $(BIN)/toolkit ensemble --tta 4
	cd $(DEMO) && $(BIN)/toolkit evaluate bundle --labels data/test-labels.csv \
		--photos data/test_upload --gain gain.json
	cd $(DEMO) && $(BIN)/toolkit report --labels data/test-labels.csv

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

# Another processor rounds otherwise: TensorFlow's library can be made to compute as older ones do.
ROUNDINGS := ROUNDING=default TF_ENABLE_ONEDNN_OPTS=0 ONEDNN_MAX_CPU_ISA=SSE41 ONEDNN_MAX_CPU_ISA=AVX2

test-numeric: $(INSTALLED)
	set -e; for rounding in $(ROUNDINGS); do \
		echo "numeric tests with $$rounding"; \
		env $$rounding $(BIN)/python -m pytest -n 2 -q -m numeric; done

lint: $(INSTALLED)
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy toolkit benchmarks

docs: $(INSTALLED)
	$(BIN)/pip install --quiet --editable '.[docs]'
	$(BIN)/python docs/generate.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info

# Made again when what is to be installed changes.
$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		(echo "Python 3.11 to 3.13 is needed: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,test]'
	touch $@
