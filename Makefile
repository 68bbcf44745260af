# Two commands do everything on a fresh Debian 12: `make run` and `make test`.
.PHONY: help setup run demo test chaos test-versions test-hosts test-languages sanitize check lint schemas lock bench clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## install what is missing: virtual environment, nats-server, mediasoup-worker, room page
	@scripts/bootstrap

run: setup ## bring a fleet up with a clip in a room, show it live, print the room's address; Ctrl-C ends it
	@.venv/bin/mafalda demo

demo: setup ## the same for ten seconds, as one JSON object
	@.venv/bin/mafalda demo --once --json

test: setup ## all tests, on real NATS and real workers
	@scripts/bootstrap --chromium
	scripts/web test
	.venv/bin/python -m pytest -n auto --dist loadfile tests/unit tests/component tests/conformance
	.venv/bin/python -m pytest -n auto --dist loadfile tests/e2e

test-versions: setup ## mediasoup's own tests of every minor version since 3.13, through the drop-in
	MAFALDA_TEST_VERSIONS=all .venv/bin/python -m pytest -s tests/e2e/versions

test-hosts: setup ## relays between servers, as network namespaces (root): crossings, regions, loss, a broken branch
	.venv/bin/python -m pytest -s -rs tests/hosts

test-languages: setup ## the examples in Go, TypeScript, Rust, Java and with nats, on a fleet; says what is missing
	.venv/bin/python -m pytest -s -rs tests/languages

sanitize: setup ## media tests with a worker that has address and undefined-behaviour sanitizers (builds it first)
	scripts/sanitize

chaos: setup ## failures under real media, all of them; MAFALDA_CHAOS_MINUTES=30 adds as long a run of random ones
	@scripts/bootstrap --chaos
	@rm -f .chaos.jsonl
	MAFALDA_CHAOS=1 MAFALDA_CHAOS_REPORT=.chaos.jsonl MAFALDA_CHAOS_MINUTES=$(MAFALDA_CHAOS_MINUTES) \
		.venv/bin/python -m pytest -rs tests/e2e/failures

check: lint test ## everything that must hold before a change lands

lint: ## style, format, types, layers, schemas
	@scripts/bootstrap --no-worker
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/python tools/generate_schemas.py --check
	scripts/web check

schemas: ## write schemas/ again after a change of the words
	@scripts/bootstrap --no-worker
	.venv/bin/python tools/generate_schemas.py
	scripts/web types

lock: ## resolve requirements.lock again from pyproject.toml
	.venv/bin/python -m pip install --quiet uv
	.venv/bin/uv pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --prerelease=if-necessary-or-explicit --quiet -o requirements.lock

bench: setup ## measure against baselines of the same run
	.venv/bin/python -m bench

clean: ## remove what setup made inside the clone
	rm -rf web/node_modules web/room/dist web/monitor/dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
