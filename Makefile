# `make demo` and `make test` are the two to know; `make study` and `make bench` measure. All build .venv first.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
export MUJOCO_GL ?= disable

.PHONY: demo study bench test test-long test-gpu test-hosts mutants coverage check docs format package clean

demo: .venv/installed
	rm -rf runs/demo
	$(BIN)/python -m reference_agents.train --framework torch --algo sac --env HalfCheetah-v5 --steps 20000 \
		--reset regrama --seed 0 --out runs/demo

study: .venv/installed
	$(BIN)/python -m benchmarks.continual_digits.grid --out docs/results

bench: .venv/installed
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.resets
	$(BIN)/python -m benchmarks.discovery

test: check docs
	$(BIN)/pytest -m "not slow and not gpu" --numprocesses $(JOBS) --dist loadfile

test-long: .venv/installed
	HYPOTHESIS_PROFILE=long $(BIN)/pytest -m "not gpu"

test-gpu: .venv/installed
	$(BIN)/python -c "import sys, torch; torch.cuda.is_available() or sys.exit('there is no CUDA device')"
	$(BIN)/pytest -m gpu

test-hosts: .venv-hosts/installed
	.venv-hosts/bin/pytest tests/hosts

mutants: .venv/tests-test
	$(BIN)/python -m tests.mutation

coverage: .venv/tests-test
	$(BIN)/pytest -m "not slow and not gpu" --numprocesses $(JOBS) --dist loadfile --cov

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

package:
	rm -rf dist build/package
	$(PYTHON) -m venv build/package/tools
	build/package/tools/bin/python -m pip install --quiet build twine
	build/package/tools/bin/python -m build --outdir dist
	build/package/tools/bin/twine check --strict dist/*
	$(PYTHON) -m venv build/package/empty
	build/package/empty/bin/python -m pip install --quiet dist/*.whl
	cd build/package && empty/bin/neuroactivity --version && empty/bin/python -c "import neuroactivity"

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

.venv/tests-test: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[tests-test]"
	touch $@

.venv-hosts/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-hosts
	grep -v "^filelock==" constraints.txt > .venv-hosts/constraints.txt  # one of Tianshou's needs an older one
	.venv-hosts/bin/python -m pip install --quiet --constraint .venv-hosts/constraints.txt --editable ".[hosts-test]"
	touch $@

clean:
	rm -rf .venv .venv-hosts build dist runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
