# make demo is the whole thing: environment, engines from the embedded model, edits, a page to look at.
.DEFAULT_GOAL := help
.PHONY: help setup cpp-setup cpp cpp-sanitize ship demo test check format bench clean

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BUNDLE := build/a2edit-mini
# The first of these that runs, is new enough and can make an environment; `make PYTHON=… setup` adds one.
PYTHONS := $(PYTHON) python3.11 /usr/bin/python3.11 python3.12 python3.13 python3

# What the C++ host is built from, by their names in Debian and Ubuntu.
CPP_PACKAGES := cmake ninja-build g++ libicu-dev libjpeg-dev libpng-dev libssl-dev nlohmann-json3-dev doctest-dev

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## the environment in .venv (a second make reuses it)

$(BIN)/python:
	@for python in $(PYTHONS); do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "creating $(VENV) with $$($$python --version)"; exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "error: no Python 3.11 or newer with venv among: $(PYTHONS); say which with make PYTHON=/path/to/python setup" >&2; exit 2

# A stamp, so that a changed requirement installs again and an unchanged one costs nothing.
$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[build,train,onnxruntime,rtx,bench,quality,dev]"
	@# a test reads one file of it; importable it would ask for torchvision, so it lies aside
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps --upgrade --target $(VENV)/aside torch-fidelity
	@touch $@

demo: setup ## build the embedded model's engines, edit held-out cases, write out/demo.html and out/demo.png
	$(BIN)/a2edit-build engines --model a2edit-mini --out $(BUNDLE)
	$(BIN)/python examples/demo.py --bundle $(BUNDLE) --out out

cpp-setup: ## what the C++ host is built from, where this is Debian or Ubuntu
	@command -v dpkg-query >/dev/null || { echo "no dpkg here: install what $(CPP_PACKAGES) are called"; exit 0; }; \
	missing=$$(for package in $(CPP_PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ]; then \
	  apt-get install -y -q $$missing || { apt-get update -q && apt-get install -y -q $$missing; }; \
	else \
	  echo "error: the C++ host needs" $$missing": run  sudo apt-get install" $$missing >&2; exit 2; \
	fi

cpp: setup cpp-setup ## the C++ host, in build/cpp, and its unit tests
	cd runtime/cpp && cmake --preset default && cmake --build --preset default && ctest --preset default

# Copies of each kind of a bundle's files that are damaged; threads, and edits of each.
DAMAGED := 4000
THREADS := 4 3
# What the sanitizers cannot see into is left out of their reports; `time` says what each took.
WATCHED := time env LSAN_OPTIONS=suppressions=$(CURDIR)/runtime/cpp/tests/lsan.supp \
  TSAN_OPTIONS=suppressions=$(CURDIR)/runtime/cpp/tests/tsan.supp

cpp-sanitize: SHELL := /bin/bash
cpp-sanitize: setup cpp-setup ## the C++ host under sanitizers: units, damaged files, threads
	@test -f $(BUNDLE)/manifest.json || $(BIN)/a2edit-build engines --model a2edit-mini --out $(BUNDLE)
	cd runtime/cpp && for preset in asan tsan; do \
	  cmake --preset $$preset && cmake --build --preset $$preset || exit 1; done
	$(WATCHED) build/cpp-asan/tests/a2edit_tests
	mkdir -p build/cpp-asan/pictures
	$(BIN)/python -c 'from pathlib import Path; from tests.cpp.test_damaged_files import FILES; \
	  [(Path("build/cpp-asan/pictures") / name).write_bytes(data) for name, data in FILES.items()]'
	$(WATCHED) build/cpp-asan/tests/a2edit_damage build/cpp-asan/pictures 500 1
	$(WATCHED) build/cpp-asan/tests/a2edit_damage $(BUNDLE)/tokenizer 100 1
	$(WATCHED) build/cpp-asan/tests/a2edit_damage_bundle $(BUNDLE) $(DAMAGED) 1
	$(WATCHED) build/cpp-tsan/tests/a2edit_tests
	$(WATCHED) build/cpp-tsan/tests/a2edit_threads $(BUNDLE) $(THREADS)

ship: cpp ## one folder that edits without Python, build/ship: C++ host, OpenVINO, the embedded model's bundle
	@test -f $(BUNDLE)/manifest.json || $(BIN)/a2edit-build engines --model a2edit-mini --out $(BUNDLE)
	rm -rf build/ship
	cmake --install build/cpp --component ship --prefix build/ship
	cp -r $(BUNDLE) build/ship/bundle
	@du -sh build/ship

test: setup cpp-setup ## the tests, of the C++ host too
	@# several processes, each with threads: those that wait must not keep a core from the others
	OMP_WAIT_POLICY=passive $(BIN)/pytest -q --numprocesses auto --maxprocesses 4 --dist loadgroup

check: setup ## what CI checks before the tests: lint, format, types, import order
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## put every file in the house's format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: setup ## latency and memory against the torch reference, and the held-out figures, into bench/results
	@test -f $(BUNDLE)/manifest.json || $(BIN)/a2edit-build engines --model a2edit-mini --out $(BUNDLE)
	$(BIN)/a2edit-bench latency --bundle $(BUNDLE)
	$(BIN)/a2edit-bench quality --bundle $(BUNDLE)

clean: ## remove what was built (not the environment)
	rm -rf build out dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
