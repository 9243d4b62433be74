# Two commands matter: `make demo` shows the main job, `make test` passes the tests. Both install what they need.

VENV    := build/venv
PYTHON  ?= python3
BIN     := $(VENV)/bin
CARGO   ?= cargo
JOBS    ?= $(shell nproc)
PYTEST  ?= --timeout=300
RELEASE := target/x86_64-unknown-linux-gnu/release
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: help build binaries venv packages rootfs demo test test-rust test-python test-policies test-profiles profiles test-docker test-docker-shared test-podman test-containerd lint bench wheel clean test-runtime-tools test-oci-every-step test-cri

help:
	@echo "make build    the executables and the rvisor command ($(BIN)/rvisor)"
	@echo "make demo     build, then show real programs on a private kernel"
	@echo "make test     build, then all tests"
	@echo "make test-profiles  each learned profile without each of its calls; ten minutes"
	@echo "make profiles  learn the shipped profiles of programs anew; needs strace and the programs"
	@echo "make test-policies  policies on containers at work; needs rt-tests, two minutes"
	@echo "make test-docker  runrsc beside runc under a Docker daemon of its own"
	@echo "make test-docker-shared  the same with --kernel=shared"
	@echo "make lint     formatting, clippy, ruff, mypy"
	@echo "make bench    rVisor beside its peers, in about half an hour (docs/performance.md)"
	@echo "make wheel    one wheel with the command and the executables, in dist/"
	@echo "make clean    remove build/ and target/"

build: binaries venv

binaries: packages
	$(CARGO) build --release --locked -j $(JOBS)

# The stamp keeps pip from being asked at every call.
venv: $(VENV)/.stamp
$(VENV)/.stamp: pyproject.toml | packages
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rvisor needs Python 3.11 or newer; say which with PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

packages:
	@tools/packages.sh

packages-%:
	@tools/packages.sh $*

rootfs: packages
	tools/rootfs.py build/rootfs

demo: build
	@tools/demo.sh $(BIN)/rvisor

test: build rootfs test-rust test-python

test-rust:
	$(CARGO) test --workspace --locked -j $(JOBS)
	RUSTFLAGS="--cfg loom" $(CARGO) test -p slots --test model --locked --release --target-dir target/model -j $(JOBS)

test-python:
	RVISOR_REQUIRE=1 RVISOR_PLATFORMS=slots,ptrace $(BIN)/pytest -q $(PYTEST)

# Not part of `make test`: the loads take their time, and the machine to themselves.
test-profiles: venv
	RVISOR_REQUIRE=1 RVISOR_PROFILES=all $(BIN)/pytest -q $(PYTEST) tests/profiles

profiles: venv
	$(BIN)/python tests/profiles/learn.py

test-policies: venv
	PYTHONPATH=python $(BIN)/pytest -q -s $(PYTEST) tests/policies/live.py

# Docker on runc and on runrsc, beside each other: a daemon of its own, and some ten minutes.
test-docker: packages-docker build rootfs
	RVISOR_DOCKER=1 RVISOR_REQUIRE=1 $(BIN)/pytest -q $(PYTEST) tests/docker

# The same cases on the host's kernel, and what belongs to that alone.
test-docker-shared: packages-docker build rootfs
	RVISOR_DOCKER=shared RVISOR_REQUIRE=1 $(BIN)/pytest -q $(PYTEST) tests/docker

# Podman and containerd of the distribution, with runc as the oracle. They need root; containerd is a daemon of the test's own.
test-podman test-containerd: test-%: packages-% build
	PYTHONPATH=python RVISOR_REQUIRE=1 RVISOR_BIN_DIR=$(abspath $(RELEASE)) $(BIN)/pytest -q $(PYTEST) tests/$*/live.py

# Pods as a kubelet makes them, over containerd's CRI. Needs Go for the client, containerd, podman (for the images) and root.
test-cri: packages-cri build
	mkdir -p build/cri && cp tests/cri/client/* build/cri
	cd build/cri && GOFLAGS=-mod=mod CGO_ENABLED=0 go build -o cri .
	PYTHONPATH=python RVISOR_CRI=$(abspath build/cri/cri) RVISOR_REQUIRE=1 RVISOR_BIN_DIR=$(abspath $(RELEASE)) \
		$(BIN)/pytest -q $(PYTEST) tests/cri/live.py

# The OCI's own validation, beside runc and crun. RUNTIME_TOOLS: where it is built, outside of this directory.
RUNTIME_TOOLS ?= /var/tmp/runtime-tools
test-runtime-tools: packages-runtime-tools build
	RVISOR_BIN_DIR=$(abspath $(RELEASE)) $(BIN)/python tests/runtime_tools/run.py $(RUNTIME_TOOLS)

# runrsc killed before every step of create, start, exec and delete, not only before some; fifty containers at once; box benchmark.
test-oci-every-step: build
	RVISOR_REQUIRE=1 RVISOR_EVERY_STEP=1 RVISOR_LONG=1 $(BIN)/pytest -q --timeout=1800 tests/oci

lint: venv
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(BIN)/ruff format --check python tests tools
	$(BIN)/ruff check python tests tools
	$(BIN)/mypy

# Goes on where it was stopped.
bench: build
	tools/peers
	$(BIN)/rvisor bench all --against all --runs 3 --budget 30 --json build/figures.json --resume --report build/report

# The executables travel inside the package; a wheel for every Python 3 on x86-64 Linux.
wheel: venv
	$(BIN)/pip wheel -q --disable-pip-version-check --no-deps -w dist .

clean:
	rm -rf build target dist
