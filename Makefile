# `make demo` and `make test` are the two to know; `make study`, `make plasticity` and `make bench` measure. All build
# .venv first.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
VERSIONED ?= tests/neuroactivity tests/adapters tests/frameworks
export MUJOCO_GL ?= disable
# XLA compiles in half the time, for programs that run a few times only; `make test-long` compiles as everybody does.
QUICKLY := XLA_FLAGS="--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

.PHONY: demo study plasticity bench test test-long test-gpu test-hosts test-comparison test-oldest \
	test-newest mutants coverage check style types docs format package package-dist clean

demo: .venv/installed
	rm -rf runs/demo
	$(BIN)/python -m reference_agents.train --framework torch --algo sac --env HalfCheetah-v5 --steps 20000 \
		--reset regrama --seed 0 --out runs/demo

study: .venv/installed
	$(BIN)/python -m benchmarks.continual_digits.grid --out docs/results

plasticity: .venv/installed
	$(BIN)/python -m benchmarks.plasticity.study

bench: .venv/installed
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.resets
	$(BIN)/python -m benchmarks.discovery

# In the order of the folders, which ends with the shortest files: none is waited for long.
test: .venv/installed
	$(QUICKLY) $(BIN)/pytest -m "not slow and not gpu" --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

test-long: .venv/installed
	HYPOTHESIS_PROFILE=long $(BIN)/pytest -m "not gpu" --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

test-gpu: .venv/installed
	$(BIN)/python -c "import sys, torch; torch.cuda.is_available() or sys.exit('there is no CUDA device')"
	$(BIN)/pytest -m gpu

test-hosts: .venv-hosts/installed
	.venv-hosts/bin/pytest --numprocesses $(JOBS) --dist loadfile tests/hosts

test-comparison: .venv-comparison/installed
	.venv-comparison/bin/pytest tests/hosts/test_comparison.py

mutants: .venv/installed
	$(BIN)/python -m tests.mutation

coverage: .venv/installed
	rm -rf build/coverage && mkdir -p build/coverage
	$(QUICKLY) $(BIN)/coverage run -m pytest -m "not slow and not gpu" --numprocesses $(JOBS) --dist loadfile
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-oldest test-newest: test-%: .venv-%/installed
	.venv-$*/bin/python -m pip list
	.venv-$*/bin/pytest -m "not slow and not gpu" -W default --numprocesses $(JOBS) --dist loadfile $(VERSIONED)

check: style types docs

style: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: .venv/installed
	$(BIN)/mypy

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ALONE := none torch jax tensorflow

package: package-dist $(ALONE:%=package-%)

package-dist:
	rm -rf dist build/package
	$(PYTHON) -m venv build/package/tools
	build/package/tools/bin/python -m pip install --quiet --constraint constraints.txt build mypy twine
	build/package/tools/bin/python -m build --outdir dist
	build/package/tools/bin/twine check --strict dist/*

# The wheel, types included, then the sdist, in an environment that has this framework alone.
$(ALONE:%=package-%): package-%: package-dist
	$(PYTHON) -m venv build/package/$*
	build/package/$*/bin/python -m pip install --quiet --constraint constraints.txt \
		"$$(echo dist/*.whl)$(if $(filter-out none,$*),[$*])"
	cd build/package && $*/bin/python -P ../../tests/packaging/alone.py $*
	cp tests/typing/users.ini tests/typing/users_*.py build/package
	cd build/package && $(if $(filter none,$*),true,tools/bin/mypy --config-file users.ini \
		--python-executable $*/bin/python users_core.py users_$*.py)
	build/package/$*/bin/python -m pip install --quiet --force-reinstall --no-deps dist/*.tar.gz
	cd build/package && $*/bin/python -P ../../tests/packaging/alone.py $*

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

.venv-hosts/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-hosts
	grep -v "^filelock==" constraints.txt > .venv-hosts/constraints.txt  # one of Tianshou's needs an older one
	.venv-hosts/bin/python -m pip install --quiet --constraint .venv-hosts/constraints.txt --editable ".[hosts-test]"
	touch $@

.venv-comparison/installed: pyproject.toml
	$(PYTHON) -m venv .venv-comparison
	.venv-comparison/bin/python -m pip install --quiet --editable ".[comparison-test]"
	touch $@

.venv-oldest/installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable ".[test]"
	touch $@

.venv-newest/installed: pyproject.toml
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --editable ".[test]"
	.venv-newest/bin/python -m pip uninstall --quiet --yes triton  # crashes where TensorFlow is loaded before it
	touch $@

clean:
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
