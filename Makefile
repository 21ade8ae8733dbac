# One word for each habit. PYTHON is the interpreter of the environment that `pip install -e '.[test]'` filled.
PYTHON ?= python3
JOBS ?= 2

.PHONY: check lint types test heavy bench

check: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -n $(JOBS) --dist loadfile

# The large sizes of the random tests.
heavy:
	$(PYTHON) -m pytest -n $(JOBS) --dist loadfile --heavy --timeout 3000

# All benchmarks, roughly; without --size small they take far longer.
bench:
	$(PYTHON) -m benchmarks --size small --results build/benchmarks
