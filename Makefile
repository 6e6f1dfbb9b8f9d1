# Everything a newcomer runs. `make demo` on a fresh Debian or Ubuntu needs python3 (3.10-3.12), its venv, and make.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VERSION := $(shell git describe --tags --always 2>/dev/null || echo 0.0.0)
export DOCKER_BUILDKIT := 1

.PHONY: demo serve test test-units test-image lint image image-gpu bench bench-quick bench-report bench-tools bench-clients bench-topk bench-train clean

demo: .venv/ready  ## set up, train two models, serve them, ask, print, stop
	$(BIN)/python scripts/demo.py

serve: .venv/ready  ## the same, kept running until Ctrl-C
	$(BIN)/python scripts/demo.py --keep-running

test: .venv/ready-dev  ## set up and pass all tests, those of the image too where a Docker engine runs or can be started
	$(BIN)/python -m pytest tests/contracts tests/whole
	$(MAKE) -j2 test-units test-image

# These two look at no clock, so they may share the machine.
test-units: .venv/ready-dev  ## the tests of single modules
	$(BIN)/python -m pytest -q --ignore=tests/contracts --ignore=tests/whole

test-image: .venv/ready-dev  ## build the image and test it (scripts/ci_image.sh --help)
	scripts/ci_image.sh

lint: .venv/ready-dev  ## ruff, mypy --strict, hadolint and shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile tests/image/ngc_stand_in/Dockerfile
	$(BIN)/shellcheck scripts/*.sh scripts/image/*.sh

image: .venv/image/ready  ## ncf-triton:cpu, and the list of what is in it (CycloneDX); ARGS="--build-arg …"
	docker build --target cpu --tag ncf-triton:cpu --build-arg VERSION=$(VERSION) $(ARGS) .
	.venv/image/bin/python scripts/sbom.py ncf-triton:cpu --output build/sbom-cpu.cdx.json

image-gpu: .venv/image/ready  ## ncf-triton:gpu on NVIDIA's Triton image, and its list; ARGS="--build-arg BASE_IMAGE=…"
	docker build --target gpu --tag ncf-triton:gpu --build-arg VERSION=$(VERSION) $(ARGS) .
	.venv/image/bin/python scripts/sbom.py ncf-triton:gpu --output build/sbom-gpu.cdx.json

bench: .venv/ready bench-tools  ## everything, in about an hour, into build/bench; interrupted, it goes on where it was; ARGS="--help"
	$(BIN)/python benchmarks/bench.py $(ARGS)

bench-quick: .venv/ready bench-tools  ## the core of it in three minutes, into build/bench-quick
	$(BIN)/python benchmarks/bench.py --quick $(ARGS)

bench-report: .venv/ready  ## make benchmarks/report and the README's table from build/bench
	$(BIN)/python benchmarks/bench_report.py build/bench --output benchmarks/report --readme README.md

# Each of them can be missing: what needs it is then left out, and says so.
bench-tools: .venv/ready
	-@$(MAKE) --no-print-directory --keep-going .venv/wrk/ready .venv/perf_analyzer/ready .venv/bench/ready

bench-clients: .venv/ready  ## three ways for the data plane to talk to Triton, measured side by side
	$(BIN)/python benchmarks/triton_clients.py

bench-topk: .venv/ready .venv/bench/ready  ## top-K and the whole serve beside what they compete with; ARGS="--help"
	$(BIN)/python benchmarks/topk.py $(ARGS)

bench-train: .venv/ready  ## training beside the bare products and gathers it is made of; ARGS="--data ml-1m", "--help"
	$(BIN)/python benchmarks/train_speed.py $(ARGS)

.venv/image/ready: requirements-image.txt
	$(PYTHON) -m venv .venv/image
	.venv/image/bin/pip install --quiet -r requirements-image.txt
	touch $@

.venv/bench/ready: requirements-bench.txt | .venv/ready
	$(PYTHON) -m venv .venv/bench
	.venv/bench/bin/pip install --quiet -r requirements-bench.txt
	touch $@

.venv/perf_analyzer/ready: scripts/get_perf_analyzer.sh | .venv/ready
	scripts/get_perf_analyzer.sh .venv/perf_analyzer
	touch $@

.venv/wrk/ready: scripts/get_wrk.sh scripts/fetch_package.sh | .venv/ready
	scripts/get_wrk.sh
	mkdir -p $(@D) && touch $@

NATIVE := $(wildcard serve/triton/backends/pytorch/native/*)
.venv/ready: requirements.txt pyproject.toml scripts/ensure_libpython.sh $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	  || { echo "this needs Python 3.10, 3.11 or 3.12, and $(PYTHON) is not one: make PYTHON=python3.11 …"; exit 1; }
	$(PYTHON) -m venv .venv
	scripts/ensure_libpython.sh $(BIN)/python
	@echo "installing what requirements.txt names; the first time this downloads for a minute or more"
	$(BIN)/pip install --quiet --requirement requirements.txt --editable .
	$(BIN)/python -m serve.triton.runtime
	touch $@

.venv/ready-dev: .venv/ready requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

clean:  ## forget the environment, the demo's data and what it exported
	rm -rf .venv .demo build model_repository/ncf_food_model* model_repository/ncf_fashion_model*
