# Everything runs in .venv, which the first target makes from any Python 3.11 or newer.
# Interrupt whenever you like: a stamp is written only after a complete install.

PYTHON := .venv/bin/python
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
INSTALL = $(PYTHON) -m pip install --quiet --no-input --disable-pip-version-check
ANNOUNCE = awk -F ':.*\#\# ' '$$1 == "$@" {print "$@: " $$2}' Makefile
# Without validation synthesis takes half as long; cfn-lint and cdk-nag check the template in the tests.
# npm's `latest` is another, incompatible command line; npx fetches it once.
CDK := aws-cdk@2.1148.1
SEED := 2503# of the random order of the tests: the same on every run
# What `make mutants` plants: how many faults, the seed of the sample, and where.
SAMPLE := 200
FAULTS := 1
PATHS := control_lambda

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: demo test check mutants synth bench bench-kairos bench-router bench-serving help

demo: .venv/installed ## six simulated hours of the fleet on an embedded AWS; writes out/demo (about 1 minute)
	@$(ANNOUNCE)
	@$(PYTHON) -m twin demo --out out/demo

test: .venv/installed-dev ## all tests, in two processes and a repeatable random order (a few minutes)
	@$(ANNOUNCE)
	@$(PYTHON) -m pytest -n 2 --dist loadfile -p randomly -p xdist --randomly-seed=$(SEED)

check: .venv/installed-dev ## style, layout, types and the direction of imports (about 1 minute)
	@$(ANNOUNCE)
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check
	@$(PYTHON) -m mypy --strict app.py containers control_lambda infra twin tests
	@.venv/bin/lint-imports --no-logo

mutants: .venv/installed-dev .venv/mutants/installed ## faults planted in the code, and which no test finds (1 to 2 hours)
	@$(ANNOUNCE)
	@.venv/mutants/bin/python -m tests.mutants --python $(CURDIR)/$(PYTHON) --sample $(SAMPLE) --seed $(FAULTS) $(PATHS)

synth: .venv/installed-infra ## the CloudFormation template of the stack, without AWS; writes cdk.out (about 10 seconds)
	@$(ANNOUNCE)
	@PATH="$(CURDIR)/.venv/bin:$$PATH" CDK_VALIDATION=false npx --yes $(CDK) synth --quiet

bench: .venv/installed-dev ## every figure of docs/evaluation.md, into out/bench (half an hour or more on two cores)
	@$(ANNOUNCE)
	@$(PYTHON) -m twin bench --out out/bench

bench-kairos: .venv/installed ## every figure about mixes and query distributors, into out/bench-kairos (minutes)
	@$(ANNOUNCE)
	@$(PYTHON) -m twin.mixes.bench --out out/bench-kairos

bench-router: .venv/installed-dev ## the query router's figures, into out/bench-router; needs haproxy (about 5 minutes)
	@$(ANNOUNCE)
	@$(PYTHON) -m containers.router.bench --out out/bench-router

bench-serving: .venv/installed-dev .venv/peers/installed ## the server's figures, into out/bench-serving (about 15 minutes)
	@$(ANNOUNCE)
	@$(PYTHON) -m containers.serving.bench --ray-python .venv/peers/bin/python --out out/bench-serving

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

.venv/installed: requirements.txt
	@$(MAKE_VENV)
	@echo "install: what $< lists, into .venv; about 1 minute, only when the list has changed"
	@$(INSTALL) -r $<
	@touch $@

.venv/installed-infra: requirements-infra.txt requirements.txt
	@$(MAKE_VENV)
	@echo "install: what $< lists, into .venv; about 1 minute, only when the list has changed"
	@$(INSTALL) -r $<
	@touch $@ .venv/installed

.venv/installed-dev: requirements-dev.txt requirements-infra.txt requirements-serving.txt requirements.txt
	@$(MAKE_VENV)
	@echo "install: what $< lists, into .venv; about 2 minutes, only when the list has changed"
	@$(INSTALL) -r $<
	@touch $@ .venv/installed .venv/installed-infra

# The peers' own environment: what they bring would change the server under test.
.venv/peers/installed: requirements-bench-serving.txt requirements-serving.txt requirements.txt | .venv/installed-dev
	@echo "install: what $< lists, into .venv/peers; some minutes, only when the list has changed"
	@$(PYTHON) -m venv --clear .venv/peers
	@.venv/peers/bin/python -m pip install --quiet --no-input --disable-pip-version-check -r $<
	@touch $@

.venv/mutants/installed: requirements-mutants.txt | .venv/installed-dev
	@echo "install: what $< lists, into .venv/mutants; about 1 minute"
	@$(PYTHON) -m venv --clear .venv/mutants
	@.venv/mutants/bin/python -m pip install --quiet --no-input --disable-pip-version-check -r $<
	@touch $@

# Leaves a working .venv alone and makes a missing or half-made one anew.
define MAKE_VENV
$(PYTHON) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && exit; \
for python in $(PYTHONS); do \
  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
    echo "install: .venv with $$($$python --version)"; \
    $$python -m venv --clear .venv && exit; \
    echo "make: $$python cannot make .venv; on Debian and Ubuntu, install python3-venv" >&2; exit 2; \
  fi; \
done; \
echo "make: Python 3.11 or newer is missing; tried $(PYTHONS)" >&2; exit 2
endef
