# make demo and make test work on a fresh machine: what they need is fetched, installed or built first, and said.
# ENGINE=docker|local decides how engines run; PYTEST_ARGS goes to pytest.
.DEFAULT_GOAL := help
PYTEST_ARGS ?=
# The engines that have an image and an interpreter of their own.
BACKENDS ?= pytorch vllm

.PHONY: help setup gpu-check demo compare test test-fast lint format docs docs-check docs-site bench soak lock engine image engine-venv clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

setup: ## Make .venv with lemctl and its tools
	@scripts/setup.sh

demo: setup ## Measure a real small model: engine, model, campaign, report
	@scripts/measure.sh demo pytorch

compare: setup ## Two engines on provably the same work: transformers and vLLM, side by side
	@scripts/measure.sh two-engines pytorch vllm

test: setup lint docs-check ## Everything, with real Docker and a real engine, as CI runs it
	@scripts/test.sh $(PYTEST_ARGS)

test-fast: setup ## Without Docker, torch and a browser
	@.venv/bin/python -m pytest -n 3 --dist worksteal -m "not docker and not engine and not gpu and not browser and not slow and not alone" $(PYTEST_ARGS)

lint: setup ## Ruff, its formatter and mypy
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --check .
	@.venv/bin/mypy --no-error-summary

format: setup ## Let ruff put the code into shape
	@.venv/bin/ruff check --quiet --fix .
	@.venv/bin/ruff format --quiet .

docs: setup ## Generate the documentation of commands, campaign file and schema
	@.venv/bin/python -m lemctl.cli.docs

docs-check: setup ## Fail when that documentation is stale
	@.venv/bin/python -m lemctl.cli.docs --check

docs-site: setup ## Build the documentation as a site, with screens of a simulation, into build/site
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict

bench: setup ## The benchmarks of lemctl itself
	@status=0; for file in coverage daemon gate plan cli html runner token_times sampler loads watch; do \
	    .venv/bin/python bench/$$file.py || { status=1; echo "bench: $$file missed a limit or failed"; }; \
	done; exit $$status

soak: setup ## Thirty simulated nights with random faults
	@PYTHONPATH=tests .venv/bin/python tests/soak.py $(SOAK_ARGS)

lock: ## Write constraints.txt anew with the newest versions
	@scripts/lock.sh

engine: ## Make sure that a Docker engine with Compose answers
	@scripts/docker-engine.sh

image: engine ## Build the images of the engines
	@for backend in $(BACKENDS); do scripts/engine-image.sh $$backend || exit 1; done

engine-venv: setup ## Make .venv-pytorch and .venv-vllm, interpreters of the local executor
	@for backend in $(BACKENDS); do scripts/engine-venv.sh $$backend || exit 1; done

clean: ## Remove what was made here; what was measured and the user's cache stay
	@rm -rf .venv .venv-pytorch .venv-vllm build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache/test-models

gpu-check: setup ## On a machine with an NVIDIA GPU: does it measure? No Docker, no network
	@LEM_PYTHON_PYTORCH="$${LEM_PYTHON_PYTORCH:-$$PWD/.venv-pytorch/bin/python}" .venv/bin/python bench/gpu_check.py $(GPU_CHECK_ARGS)
