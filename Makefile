# Everything runs in one virtual environment, made on first use. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV   := evalforge_venv
BIN    := $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help demo test test-all check docs site lock sbom advisories package image bench clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/.base: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; say which with: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing evalforge into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(BIN)/.dev: $(BIN)/.base
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,site]'
	@touch $@

demo: $(BIN)/.base  ## the main job on embedded defaults: a local Datadog, SQLite, no account
	@$(BIN)/evalforge demo

# Each worker reads every test: what was compiled once is kept, whatever the surroundings say.
test test-all: export PYTHONDONTWRITEBYTECODE =

test: $(BIN)/.dev  ## one path through every capability, under 5 minutes on 2 cores
	$(BIN)/python -m pytest -q -m "not long" -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(BIN)/.dev  ## the long tests, properties with all their examples, every Python that is installed
	$(BIN)/python -m pytest -q -m "hypothesis and not long" -n 2 --dist loadfile --no-loadscope-reorder --hypothesis-profile=full
	$(BIN)/python -m pytest -q -m long --hypothesis-profile=full -n 2 --dist loadfile --no-loadscope-reorder

check: $(BIN)/.dev  ## formatting, lint, types, generated docs, locks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint deploy/image/Dockerfile
	$(BIN)/python -m docs.generate --check
	$(BIN)/python -m deploy.dashboards --check
	$(BIN)/python -m deploy.lock --check
	$(BIN)/python -m deploy.sbom --check

docs: $(BIN)/.dev  ## write the generated parts of docs/, the dashboards and the alerts
	$(BIN)/python -m docs.generate
	$(BIN)/python -m deploy.dashboards

site: $(BIN)/.dev  ## build the documentation site into build/site, its links checked
	$(BIN)/python -m docs.site

lock: $(BIN)/.dev  ## lock what pyproject.toml asks for, with hashes; UPGRADE=1 takes the newest versions
	$(BIN)/python -m deploy.lock $(if $(UPGRADE),--upgrade)
	$(BIN)/python -m deploy.sbom

sbom: $(BIN)/.dev  ## write the bill of materials of what is locked
	$(BIN)/python -m deploy.sbom

advisories: $(BIN)/.dev  ## known vulnerabilities of what is locked; OSV_URL=... asks a mirror, MUST=1 fails where it cannot tell
	$(BIN)/python -m deploy.advisories $(if $(OSV_URL),--osv-url $(OSV_URL)) $(if $(MUST),--must)

package: $(BIN)/.dev  ## build the source distribution, and the wheel from it, into dist/
	$(BIN)/python -m uv build --build-constraints deploy/build.lock --require-hashes --out-dir dist

image: $(BIN)/.dev  ## build the container image on BASE=python:3.13-slim; TAG=... names it, RELEASE=1 wants a base by digest
	$(BIN)/python -m deploy.image build --base $(or $(BASE),$(error say on what: make image BASE=python:3.13-slim)) $(if $(TAG),--tag $(TAG)) $(if $(RELEASE),--release)

$(BIN)/.bench: $(BIN)/.dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@test -x $(VENV)/dlt/bin/python || $(PYTHON) -m venv $(VENV)/dlt
	@$(VENV)/dlt/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench-dlt]'
	@touch $@

bench: $(BIN)/.bench  ## measure, as ratios in one run, into docs/benchmarks.md; FULL=1 scans 1,000,000 spans too
	$(BIN)/python -m bench $(if $(FULL),--full)
	$(BIN)/python -m bench.sandbox
	$(BIN)/python -m bench privacy

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
