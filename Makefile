# The front door. Nothing but Python >= 3.10 with venv is needed beforehand; `VENV=/elsewhere make ...` uses another place.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin
DATA ?= data/phantom
OUTPUT ?= outputs/movl_classification
# `make train` replaces the training and the report in OUTPUT; `make evaluate` alone replaces no report of other data.
OVERWRITE ?= false
BUNDLE := bundles/movl_classification
STAMP := $(VENV)/.movl-monai
# The MONAI Deploy App SDK changes what `import monai` does, so it has an environment of its own.
DEPLOY_VENV ?= $(HOME)/.cache/movl_monai/deployvenv
DEPLOY_RUN := $(DEPLOY_VENV)/bin
# the writer of the bill of materials depends on packages that do not belong into the list
SBOM_VENV ?= $(HOME)/.cache/movl_monai/sbomvenv
# the last packager of applications; it is only asked what it reads of them, and wants other versions of what it depends on
PACKAGER_VENV ?= $(DEPLOY_VENV)/packager
# MONAI Label wants NumPy 1 and pydicom 2
LABEL_VENV ?= $(HOME)/.cache/movl_monai/labelvenv
# The dependencies are installed again when pyproject.toml changes, the project itself when this checkout moves.
WANTED := $(shell cat pyproject.toml | cksum | cut -d' ' -f1)
HERE := $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help setup bundles data train evaluate report test docs examples lint types house language check bench fuzz hostile golden constraints sbom deploy-test label-test clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup:  ## set up the virtual environment (once; a re-run does nothing)
	@if [ ! -x "$(RUN)/python" ]; then \
	  echo "==> Making a virtual environment in $(VENV)"; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python >= 3.10 is needed, $(PYTHON) is older; pass PYTHON=/path/to/python3.11"; exit 1; }; \
	  $(PYTHON) -m venv "$(VENV)"; \
	fi
	@if [ "$$(cat $(STAMP).deps 2>/dev/null)" != "$(WANTED)" ]; then \
	  echo "==> Installing movl_monai and its dependencies (torch is several GB: 2 to 10 minutes the first time)"; \
	  "$(RUN)/python" -m pip install --quiet --disable-pip-version-check --upgrade 'setuptools>=77' && \
	  "$(RUN)/python" -m pip install --quiet --disable-pip-version-check -e '.[dev,export]' && \
	  echo "$(HERE)" > $(STAMP).here && echo "$(WANTED)" > $(STAMP).deps; \
	elif [ "$$(cat $(STAMP).here 2>/dev/null)" != "$(HERE)" ]; then \
	  echo "==> Pointing $(VENV) at this checkout"; \
	  "$(RUN)/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . && echo "$(HERE)" > $(STAMP).here; \
	fi

bundles:  ## write what the bundles share, from bundles/_shared
	@$(PYTHON) bundles/_shared/make.py

data: setup  ## write the embedded phantom data set (DICOM)
	@"$(RUN)/movl-monai" phantom "$(DATA)"

train: data  ## train and evaluate MoVL on the phantom; ends with where the checkpoint and the report are
	@echo "==> Training MoVL on $(DATA)"
	@"$(RUN)/movl-monai" train $(BUNDLE) "$(DATA)" --output_dir "$(OUTPUT)" --overwrite true
	@$(MAKE) --no-print-directory evaluate OVERWRITE=true

evaluate: setup  ## evaluate the trained checkpoint, in-distribution and out-of-distribution
	@echo "==> Evaluating on the test split and on the other scanner"
	@"$(RUN)/movl-monai" run evaluating --config_file $(BUNDLE)/configs/train.json $(BUNDLE)/configs/evaluate.json \
	  --dataset_dir "$(DATA)" --output_dir "$(OUTPUT)" --overwrite $(OVERWRITE)
	@echo "Checkpoint: $(OUTPUT)/models/model.pt"
	@echo "Report:     $(OUTPUT)/evaluation/report.html and report.json"

report: setup  ## make report.html again from the stored report and figures
	@"$(RUN)/movl-monai" report "$(OUTPUT)/evaluation"

test: setup  ## run the tests (with MOVL_TEST_DATA set, also those on real data)
	@[ -n "$$MOVL_TEST_DATA" ] || echo "==> MOVL_TEST_DATA is not set: tests on real data will skip"
	@"$(RUN)/python" -m pytest $(PYTEST_ARGS)

docs: setup  ## build the site in build/site; a warning or a dead link is an error
	@NO_MKDOCS_2_WARNING=1 "$(RUN)/python" -m mkdocs build --strict --quiet && echo "Site: build/site/index.html"

examples: setup  ## record what the examples print, which their pages show
	@"$(RUN)/python" -m tests.examples

lint: setup  ## check style, and which package imports which
	@"$(RUN)/ruff" format --check . && "$(RUN)/ruff" check . && "$(RUN)/lint-imports" --no-cache

types: setup  ## check types
	@"$(RUN)/python" -m mypy movl_monai transforms benchmarks

house: setup  ## measure the code's structure: imports, lines, files, annotations, docstrings
	@"$(RUN)/python" -m tests.house

language: setup  ## count hard-to-read English in docstrings, per folder
	@"$(RUN)/python" -m tests.language

check: lint types test  ## lint, types and tests

bench: setup  ## measure speed and memory beside plain loops; writes bench.json (BENCH_ARGS=--quick for a look)
	@"$(RUN)/python" -m benchmarks $(BENCH_ARGS)

fuzz: setup  ## damage real files at random and read them (FUZZ_ARGS="--minutes 5 --seed 0")
	@"$(RUN)/python" -m tests.fuzz $(FUZZ_ARGS)

hostile: setup  ## read files made to exhaust memory or patience; prints the list with peak memory
	@"$(RUN)/python" -m tests.hostile

golden: setup  ## record, or compare, every file that the commands write (GOLDEN_ARGS="write DIR" or "check DIR")
	@"$(RUN)/python" -m tests.golden $(GOLDEN_ARGS)

constraints: setup  ## write constraints.txt: the versions of this environment, in which the tests passed
	@{ echo "# Versions with which the tests passed (Python $$("$(RUN)/python" -c 'import platform; print(platform.python_version())')); written by \`make constraints\`."; \
	  "$(RUN)/python" -m pip freeze --disable-pip-version-check --exclude-editable --exclude movl-monai; } > constraints.txt

sbom: setup  ## write sbom.json, a bill of materials (CycloneDX) of the installed environment
	@if [ ! -x "$(SBOM_VENV)/bin/cyclonedx-py" ]; then \
	  $(PYTHON) -m venv "$(SBOM_VENV)" && \
	  "$(SBOM_VENV)/bin/python" -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7,<8'; \
	fi
	@"$(SBOM_VENV)/bin/cyclonedx-py" environment --pyproject pyproject.toml --output-reproducible -o sbom.json "$(RUN)/python"

deploy-test:  ## set up the environment of the MONAI Deploy applications in DEPLOY_VENV, and run their tests in it
	@if [ ! -x "$(DEPLOY_RUN)/python" ]; then $(PYTHON) -m venv "$(DEPLOY_VENV)"; fi
	@if [ "$$(cat $(DEPLOY_VENV)/.movl-monai 2>/dev/null)" != "$(WANTED) $(HERE)" ]; then \
	  echo "==> Installing movl_monai with the MONAI Deploy App SDK in $(DEPLOY_VENV) (several GB the first time)"; \
	  "$(DEPLOY_RUN)/python" -m pip install --quiet --disable-pip-version-check --upgrade 'setuptools>=77' && \
	  "$(DEPLOY_RUN)/python" -m pip install --quiet --disable-pip-version-check -e '.[deploy,export]' 'pytest>=8.3' 'pytest-timeout>=2.3' 'hypothesis>=6.100' && \
	  echo "$(WANTED) $(HERE)" > "$(DEPLOY_VENV)/.movl-monai"; \
	fi
	@if [ ! -x "$(PACKAGER_VENV)/bin/monai-deploy" ]; then \
	  $(PYTHON) -m venv "$(PACKAGER_VENV)" && \
	  "$(PACKAGER_VENV)/bin/python" -m pip install --quiet --disable-pip-version-check 'holoscan-cli>=4,<4.3'; \
	fi
	@MOVL_PACKAGER="$(PACKAGER_VENV)/bin/python" "$(DEPLOY_RUN)/python" -m pytest tests/deploy -W "ignore:Current stack size:RuntimeWarning" $(PYTEST_ARGS)

label-test: setup  ## set up the environment of MONAI Label in LABEL_VENV, and run the test of its app
	@if [ "$$(cat $(LABEL_VENV)/.movl-monai 2>/dev/null)" != "$$(cksum < examples/monai_label/requirements.txt)" ]; then \
	  echo "==> Installing MONAI Label in $(LABEL_VENV) (several GB the first time)"; \
	  $(PYTHON) -m venv "$(LABEL_VENV)" && \
	  "$(LABEL_VENV)/bin/python" -m pip install --quiet --disable-pip-version-check -r examples/monai_label/requirements.txt && \
	  cksum < examples/monai_label/requirements.txt > "$(LABEL_VENV)/.movl-monai"; \
	fi
	@MOVL_LABEL_PYTHON="$(LABEL_VENV)/bin/python" "$(RUN)/python" -m pytest tests/test_label_app.py $(PYTEST_ARGS)

clean:  ## remove outputs and the phantom (not the virtual environment)
	rm -rf data/phantom outputs
