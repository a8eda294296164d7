# make demo, make test, make lint, make bench. The first call sets up .venv; it needs Python >= 3.11.

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
PY := $(VENV)/bin/python
# The file that is written last: once it exists, the sample is complete.
SAMPLE := $(DEMO)/data/sample_meif/1.0.0/dataset_info.json
INSTALLED := $(VENV)/.installed

.PHONY: setup demo test lint format bench clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("error: this is Python %d.%d; make needs 3.11 or newer: make PYTHON=python3.11 ..." % v[:2])'
	@echo "setting up $(VENV) (once; it takes a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED) $(SAMPLE)
	$(PY) train.py --config=configs/sample.py --config.data.dir=$(DEMO)/data --workdir=$(DEMO)/run
	$(PY) evaluate.py --checkpoint=$(DEMO)/run --dataset=sample_mfif --data_dir=$(DEMO)/data --out=$(DEMO)/results
	@echo
	@echo "Open $(DEMO)/results/report.html in a browser; the images are in $(DEMO)/results/fused/. Next:"
	@echo "  $(PY) train.py --config=configs/sample.py --config.data.dir=$(DEMO)/data --config.train.steps=2000 --workdir=$(DEMO)/longer"
	@echo "  $(PY) -m data_prep msrs --source=FOLDER_OR_ARCHIVE --out=data"
	@echo "  $(PY) train.py --config=configs/msrs.py:practical --config.data.crop=64 --config.train.steps=3000 --workdir=runs/msrs"
	@echo "  $(PY) evaluate.py --checkpoint=runs/msrs --dataset=msrs --split=test --out=results"

$(SAMPLE): | $(INSTALLED)
	$(PY) -m data_prep.sample --out=$(DEMO)/pairs --data=$(DEMO)/data --overwrite

test: $(INSTALLED)
	$(PY) -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyrefly check --python-interpreter-path $(PY)

format: $(INSTALLED)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(INSTALLED)
	$(PY) -m benchmarks.scan
	$(PY) -m benchmarks.model
	$(PY) -m benchmarks.training
	$(PY) -m benchmarks.operations
	$(PY) -m benchmarks.data
	$(PY) -m benchmarks.metrics

clean:
	rm -rf $(VENV) $(DEMO)
