# Two environments: .venv holds the daemon without torch, .venv-train the trainer as well.  Others hold
# the daemon with other versions: .venv-3.10 to .venv-3.14 that Python, .venv-lowest Python 3.10 and of
# each package the lowest version that pyproject.toml declares.

.DEFAULT_GOAL := help

PYTHON ?= python3
PIP_INSTALL = pip install --quiet --disable-pip-version-check --no-compile --editable
# Two compute while the third waits for a daemon that listens in real time; the trainer's all compute.
THREE_PROCESSES = -n 3 --dist loadfile --no-loadscope-reorder
TWO_PROCESSES = -n 2 --dist loadfile
QUICK_TESTS = tests/cli/test_demo.py tests/publish/test_tls.py tests/test_versions.py tests/test_imports.py \
  -k 'not interrupted'
DEBIAN_PACKAGES = debootstrap faketime iproute2 jackd2 libportaudio2 libasound2-plugins mosquitto \
  openssl pulseaudio shellcheck systemd systemd-container

PYTHONS = 3.10 3.11 3.12 3.13 3.14

.PHONY: help run test test-daemon test-train test-slow $(PYTHONS:%=test-%) test-lowest test-versions \
  quick-3.13 quick-lowest coverage check format generate bench scale soak structure golden demo-model constraints packages clean

help:  ## list the targets
	@sed -nE 's/^(# )?([a-z][^: ]*):[^#]*## (.*)/\2\n\3/p' Makefile \
	  | while read -r target && read -r text; do printf '%-16s %s\n' "$$target" "$$text"; done

run: .venv/ready  ## run the daemon for a minute on a simulated machine, with an embedded broker
	.venv/bin/edgeasd demo

test: test-daemon test-train  ## all quick tests: test-daemon and test-train

test-daemon: packages .venv/ready-dev  ## the quick tests that need no torch, in an environment without torch
	! .venv/bin/python -c "import torch" 2>/dev/null
	.venv/bin/python -m pytest --ignore=tests/train $(THREE_PROCESSES) $(PYTEST_ARGS)

test-train: packages .venv-train/ready  ## the quick tests of the trainer, and of its models in the daemon
	OMP_NUM_THREADS=1 .venv-train/bin/python -m pytest tests/train $(TWO_PROCESSES) $(PYTEST_ARGS)

test-slow: packages .venv-train/ready  ## tests that take minutes, thorough fuzzing, other versions
	.venv-train/bin/python -m pytest -m slow -s --timeout=0 $(PYTEST_ARGS)
	.venv-train/bin/python -m pytest -m fuzz --hypothesis-profile=thorough --timeout=0 $(PYTEST_ARGS)
	$(MAKE) --jobs=1 test-3.10 test-3.13 test-lowest

# test-3.12:  ## test-daemon on that Python, 3.10 to 3.14
# test-lowest:  ## test-daemon on the lowest Python with the lowest versions declared
$(PYTHONS:%=test-%) test-lowest: test-%: packages .venv-%/ready
	.venv-$*/bin/python -m pytest --ignore=tests/train $(THREE_PROCESSES) $(PYTEST_ARGS)

test-versions: quick-3.13 quick-lowest  ## the demo, TLS and all imports with other versions

quick-3.13 quick-lowest: quick-%: packages .venv-%/ready
	.venv-$*/bin/python -m pytest -n 2 --dist worksteal $(QUICK_TESTS) $(PYTEST_ARGS)

coverage: packages .venv/ready-dev  ## branch coverage of the daemon by the tests that need no torch
	.venv/bin/python -m pytest --ignore=tests/train $(THREE_PROCESSES) --cov --cov-report=term \
	  --cov-report=html:build/coverage $(PYTEST_ARGS)

check: .venv-train/ready  ## check style, types and the direction of imports
	.venv-train/bin/ruff format --check
	.venv-train/bin/ruff check
	.venv-train/bin/mypy
	.venv-train/bin/lint-imports --no-cache

format: .venv/ready-dev  ## format the code and fix what ruff can fix
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

generate: .venv/ready-dev  ## make the files that follow from the types of the code
	.venv/bin/python -m tools.generate

bench: packages .venv-train/ready  ## cost of a window and of training, as ratios within one run
	.venv-train/bin/python -m tests.benchmarks
	.venv-train/bin/python -m tests.benchmarks.training

scale: packages .venv-train/ready  ## cost of each machine, and how many one core carries
	.venv-train/bin/python -m tests.benchmarks.scale --capacity

soak: packages .venv-train/ready  ## play a day of sound to eight machines, in half an hour to an hour
	.venv-train/bin/python -m tests.benchmarks.soak

structure: packages .venv/ready-dev  ## how much there is to learn, and what a start costs
	.venv/bin/python -m tests.benchmarks.structure

golden: packages .venv/ready-dev  ## say what differs from the results of the earlier release
	.venv/bin/python -m tests.golden --compare

demo-model: .venv-train/ready  ## train edgeasd/models/demo.onnx again
	.venv-train/bin/python -m train fit train/recipes/demo.toml --out runs/demo
	.venv-train/bin/python -m train export runs/demo --out edgeasd/models/demo.onnx

constraints:  ## pin anew what deploy/install.sh installs, for every Python and processor
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv
	echo 'hatchling>=1.25' | build/uv/bin/uv pip compile pyproject.toml - --extra plot --upgrade \
	  --universal --python-version 3.10 --only-binary :all: --generate-hashes --quiet \
	  --custom-compile-command 'make constraints' --no-annotate --output-file deploy/constraints.txt

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/$(PIP_INSTALL) '.[demo]'
	touch $@

.venv/ready-dev: .venv/ready
	.venv/bin/$(PIP_INSTALL) '.[demo,dev,plot]'
	touch $@

.venv-train/ready: pyproject.toml
	$(PYTHON) -m venv .venv-train
	.venv-train/bin/$(PIP_INSTALL) '.[demo,dev,train]'
	touch $@

# Python $(1): what the search path has, or pyenv; its shims may be there and not work.
define PYTHON_OF_VERSION
$$(for python in python$(1) $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$(1).*/bin/python; do \
  "$$python" -c '' 2>/dev/null && echo "$$python" && exit; done; echo false; \
  echo "Python $(1) is missing; install it, for example by: pyenv install $(1)" >&2)
endef

.venv-3.%/ready: pyproject.toml
	$(call PYTHON_OF_VERSION,3.$*) -m venv .venv-3.$*
	.venv-3.$*/bin/$(PIP_INSTALL) '.[demo,dev,plot]'
	touch $@

# The trainer's bounds are left out: they would hold packages of the others to them.  Old releases of
# matplotlib call pyparsing by names that it warns of from 3.3 on.
.venv-lowest/ready: pyproject.toml
	$(call PYTHON_OF_VERSION,3.10) -m venv .venv-lowest
	sed '/^train = /,/^]/d' pyproject.toml | grep -oE '"[a-z-]+>=[0-9.]+' \
	  | sed 's/"//; s/>/=/; $$apyparsing<3.3' >.venv-lowest/constraints.txt
	.venv-lowest/bin/$(PIP_INSTALL) '.[demo,dev,plot]' --constraint .venv-lowest/constraints.txt
	touch $@

packages:
	@missing=""; for package in $(DEBIAN_PACKAGES); do \
	  dpkg-query --show --showformat='$${db:Status-Status}' $$package 2>/dev/null \
	    | grep -qx installed || missing="$$missing $$package"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then \
	  echo "missing Debian packages; install them: sudo apt-get install$$missing" >&2; exit 1; fi; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -qq --no-install-recommends --yes $$missing >/dev/null

clean:  ## remove environments, builds and caches
	rm -rf .venv .venv-train $(PYTHONS:%=.venv-%) .venv-lowest build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
