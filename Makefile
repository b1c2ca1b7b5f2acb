# The commands that people and CI run. `make help` lists them.
SHELL := /bin/bash
BIN := .venv/bin
STATIC := src/live_telemetry_widget/view/static
BENCHMARKS := $(addprefix benchmarks/,$(addsuffix .py,per_step batched emitting memory growth latency merging questions curves reading))
JS_SOURCES := $(wildcard js/src/*.ts js/src/*.css) js/build.mjs js/tsconfig.json

.PHONY: help setup demo test check test-python test-js test-browser test-sb3 test-latex bench proto clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STATIC)/widget.js .venv/.installed ## virtual environment, packages, bundle

# After the bundle, or the editable install would build one itself.
.venv/.installed: pyproject.toml constraints.txt hatch_build.py | $(STATIC)/widget.js
	@echo "installing the Python packages; the first time this takes some minutes"
	@python=$$(scripts/find-python) && { test -x $(BIN)/python || "$$python" -m venv .venv; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

js/node_modules/.installed: js/package.json js/package-lock.json
	@command -v npm >/dev/null || { echo "Node 20 or newer with npm is needed and was not found" >&2; exit 1; }
	@echo "installing the npm packages"
	@cd js && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(STATIC)/widget.js: js/node_modules/.installed $(JS_SOURCES)
	@cd js && npm run --silent build
	@touch $@

demo: setup ## a live run in JupyterLab; CHECK=1 runs it without a person
	$(BIN)/python scripts/demo.py $(if $(CHECK),--check)

test: setup check test-js test-python ## all checks and tests

check: setup ## formatting, lint, types, generated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/gen_proto.py --check
	cd js && npm run --silent check

test-js: setup ## the page's own tests
	cd js && npm run --silent test

test-python: setup ## pytest, the browser's tests included
	scripts/need-chromium
	$(BIN)/python -m pytest -q --durations=8

test-browser: setup ## only the tests in a real browser
	scripts/need-chromium
	$(BIN)/python -m pytest -q tests/browser

test-sb3: setup ## the callback in Stable-Baselines3's own algorithms; their environment is large, so apart
	@test -x .venv-sb3/bin/python || $(BIN)/python -m venv .venv-sb3
	@.venv-sb3/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt \
		--editable '.[gymnasium,sb3]' pytest pytest-asyncio pytest-timeout hypothesis
	.venv-sb3/bin/python -m pytest -q tests/integration/test_sb3.py

test-latex: setup ## a notebook as PDF by way of LaTeX, which is large and so not part of `make test`
	scripts/need-latex
	scripts/need-chromium
	$(BIN)/python -m pytest -q tests/browser/test_exported.py

bench: setup .venv-bench/.installed ## what things cost, as tables with ratios; QUICK=1 in a minute or two
	@for table in $(BENCHMARKS); do \
	  echo "== $$table"; QUICK=$(QUICK) .venv-bench/bin/python "$$table" || exit 1; done

# An environment of its own: what others' loggers bring with them has no business among ours. Where one cannot be had, its row says so.
.venv-bench/.installed: pyproject.toml constraints.txt | .venv/.installed
	@echo "installing what the benchmarks compare with"
	@test -x .venv-bench/bin/python || $(BIN)/python -m venv .venv-bench
	@.venv-bench/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[gymnasium]'
	@.venv-bench/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[bench]' || \
	  echo "rerun-sdk or tensorboardX could not be installed; their rows say so" >&2
	@# By itself, because it wants an older pillow than we pin.
	@.venv-bench/bin/python -m pip install -qq --disable-pip-version-check 'trackio==0.43.0' 'pillow<13' || \
	  echo "trackio could not be installed; its row says so" >&2
	@touch $@

proto: setup ## regenerate the wire code
	$(BIN)/python scripts/gen_proto.py

clean: ## remove what setup made
	rm -rf .venv .venv-bench .venv-sb3 js/node_modules $(STATIC) demo-out
