# Safelight. `make demo` and `make test` work on a machine with only Python 3.11+, Node 20+, make and git.
.DEFAULT_GOAL := help
PY      := .venv/bin/python
UV      := .tools/bin/uv
STUDIO  := src/safelight/studio_dist/index.html
ARGS    ?=
# Tests mostly wait for things to happen: more of them at once than there are cores. Browser tests go by themselves:
# Playwright holds its process's event loop, and they need the machine to draw.
WORKERS ?= 4
# Whoever forbids it has every process compile all libraries anew: 1.6 s of processor time, for each of some hundred.
unexport PYTHONDONTWRITEBYTECODE

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/.runtime $(STUDIO) ## Start everything on this machine and show a first generation
	@exec .venv/bin/safelight demo $(ARGS)

test: lint test-js test-py ## Everything CI runs

lint: .venv/.dev js/node_modules/.installed ## Linters, types and import contracts
	.venv/bin/ruff check . && .venv/bin/ruff format --check .
	.venv/bin/pyright
	PYTHONPATH=src .venv/bin/lint-imports
	cd js && npm run --silent lint && npm run --silent types

test-js: js/node_modules/.installed
	cd js && npm test --silent

test-py: .venv/.dev $(STUDIO)
	$(PY) tools/ensure_chromium.py
	$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/browser
	$(PY) -m pytest tests/browser

bench: .venv/.bench $(STUDIO) ## Figures of docs/performance.md, peers beside us in the same run
	$(PY) -m benchmarks $(ARGS)

parity: .venv/.dev $(STUDIO) ## The table of docs/parity.md: from the commit to the screen, whatever is broken
	$(PY) tools/ensure_chromium.py
	SAFELIGHT_PARITY_TABLE=docs/parity.md $(PY) -m pytest tests/browser

lock: $(UV) ## Pin dependencies by version and hash
	$(UV) pip compile -q --generate-hashes --no-annotate --no-header --universal --python-version 3.11 -c tools/constraints.txt pyproject.toml -o requirements.lock
	$(UV) pip compile -q --generate-hashes --no-annotate --no-header --universal --python-version 3.11 pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock
	$(UV) pip compile -q --generate-hashes --no-annotate --no-header --universal --python-version 3.11 pyproject.toml --group dev --group bench -c requirements-dev.lock -o requirements-bench.lock

format: .venv/.dev js/node_modules/.installed ## Format everything
	.venv/bin/ruff check --fix-only . ; .venv/bin/ruff format .
	cd js && npm run --silent format

clean: ## Remove what was built
	rm -rf .venv .tools js/node_modules src/safelight/studio_dist .bench

$(UV): tools/requirements-uv.lock
	python3 -m venv .tools
	.tools/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r tools/requirements-uv.lock
	@touch $@

.venv/bin/python: | $(UV)
	$(UV) venv -q --allow-existing --python "$$(command -v python3)" .venv

# One environment that grows: runtime for the demo, then test tools, then the benchmark's peers.
.venv/.runtime: requirements.lock pyproject.toml | .venv/bin/python
	$(UV) pip install -q --python $(PY) --require-hashes -r requirements.lock
	$(PY) tools/link_source.py
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.runtime
	$(UV) pip install -q --python $(PY) --require-hashes -r requirements-dev.lock
	@touch $@

.venv/.bench: requirements-bench.lock .venv/.dev
	$(UV) pip install -q --python $(PY) --require-hashes -r requirements-bench.lock
	@touch $@

js/node_modules/.installed: js/package-lock.json
	cd js && npm ci --silent --no-audit --no-fund
	@touch $@

$(STUDIO): js/node_modules/.installed $(shell find js/client js/react js/studio -name node_modules -prune -o -type f -print 2>/dev/null)
	cd js && npm run --silent build
	@touch $@

.PHONY: help demo test lint test-js test-py bench parity lock format clean
