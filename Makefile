# Two commands: `make run` builds all and serves; `make test` sets up the same and passes every test.
# What is needed: Rust, Python 3.11 or later, git, make, gcc. All else goes into .venv and target/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 8080
ROUNDS ?= 1000
SEEDS ?= 100000
PEER_SEEDS ?= 10000
VENV := .venv
BIN := $(VENV)/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)
# maturin refuses to choose between this environment and one of conda.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
unexport CONDA_PREFIX

.PHONY: help run test test-rust test-python campaign sim simnet mutations compat-store bench docs wheel \
    wheel-test install-dist install-dev tools clean

help:
	@echo "make run     build everything into $(VENV) and serve on port $(PORT)"
	@echo "make test    build everything and pass every test"
	@echo "make bench   our own figures, as a table and JSON"
	@echo "make docs    the documentation as a site, in $(TARGET)/site"
	@echo "make wheel   the Python package for any Linux, with the program in it, in $(TARGET)/wheels/manylinux"
	@echo "make wheel-test    that, installed and run where there is nothing else"
	@echo "make campaign      processes killed, stopped and cut off, ROUNDS=$(ROUNDS) times"
	@echo "make sim           stores simulated with faults, SEEDS=$(SEEDS) of them"
	@echo "make simnet        peers simulated over a bad network, PEER_SEEDS=$(PEER_SEEDS) of each kind"
	@echo "make mutations     each line that protects data broken, to see a test fail"
	@echo "make compat-store  the stores of tests/compat, written anew by this build"
	@echo "make clean   remove what was built"

run: install-dist
	exec $(BIN)/objsync serve --port $(PORT)

test: test-rust test-python

test-rust:
	cargo test --locked --no-fail-fast

test-python: install-dev
	$(BIN)/python -c 'import test.mapping_tests' 2>/dev/null || tests/install-testsuite
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -c tests/pytest.ini --rootdir . tests/python

# 50 of these rounds are part of `make test`. OBJSYNC_SEED repeats the moments of another run.
campaign:
	OBJSYNC_ROUNDS=$(ROUNDS) cargo test --locked -p objsync-cli --test campaign -- --nocapture killed

# Right only while format 0 may change: see tests/compat/README.md.
compat-store:
	OBJSYNC_WRITE_COMPAT=1 cargo test --locked -p objsync-tests --test compat stores_hold
	cargo test --locked -p objsync-tests --test compat

# A seed that fails is named, with the command that runs it again.
sim:
	OBJSYNC_SEEDS=$(SEEDS) cargo test --locked --profile sim -p objsync-store --test sim -- --nocapture

# The whole stack, and its machines in plain messages. OBJSYNC_SEED=N repeats one, and tells all of it.
simnet:
	OBJSYNC_SEEDS=$(PEER_SEEDS) cargo test --locked --profile sim -p objsync-tests --test sim -- --nocapture

mutations:
	tests/mutations/run

bench: install-dist
	cargo build --locked --profile dist -p objsync-benches
	PATH="$(CURDIR)/$(BIN):$$PATH" benches/run $(BENCH_ARGS)

docs: $(BIN)/.docs
	docs/build $(BIN)/python $(TARGET)/site

$(BIN)/.docs: docs/requirements.txt | tools
	$(BIN)/python -m pip install -q --disable-pip-version-check -r $<
	touch $@

# One wheel for every Python from 3.11 on and every Linux with a glibc of 2.17 or later: zig links it
# against that one's symbols.
wheel: $(BIN)/.wheel
	pybind/wheel $(BIN) $(TARGET)

wheel-test: wheel
	tests/wheel $(BIN) $(TARGET)/wheels/manylinux

$(BIN)/.wheel: pybind/requirements.txt | tools
	$(BIN)/python -m pip install -q --disable-pip-version-check -r $<
	touch $@

# The program and the wheel as users get them, and as tests get them. Both kinds go to the same
# place; whichever is asked for last is there.
install-dist: tools
	$(call build,dist,dist)
	$(call install,dist,dist)

install-dev: tools
	$(call build,dev,debug)
	$(call install,dev,debug)

tools: $(BIN)/.tools

# --without-pip fails later and less clearly than this does.
$(BIN)/.tools: tests/requirements.txt
	@test -n "$(PYTHON)" || { echo "no python3 found: install Python 3.11 or later" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is older than 3.11: give another with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tests/install-venv "$(PYTHON)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r tests/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(TARGET)

# $(1) profile, $(2) its folder below target/
define build
	cargo build --locked --profile $(1) -p objsync-cli
	rm -rf $(TARGET)/wheels/$(1)
	$(BIN)/maturin build --quiet --locked --profile $(1) -m pybind/Cargo.toml \
	    -i $(BIN)/python --out $(TARGET)/wheels/$(1)
endef

# The program goes in beside its old self and then takes its name, so one that runs is not disturbed.
define install
	install -m 755 $(TARGET)/$(2)/objsync $(BIN)/objsync.new
	mv -f $(BIN)/objsync.new $(BIN)/objsync
	$(BIN)/python -m pip install -q --disable-pip-version-check --force-reinstall --no-deps \
	    $(TARGET)/wheels/$(1)/objsync-*.whl
endef
