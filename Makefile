# Two commands do everything: `make run` starts the server, `make test` checks the whole tree.
# Both install what they lack through apt when they may, and otherwise name the packages.

CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

# Of `make fuzz`: for each target.
SECONDS ?= 60

.PHONY: run test setup-run setup-test fmt lint docs check alone bench fuzz fuzz-minimize setup-fuzz sweep

run: setup-run
	$(CARGO) run --release --locked --package antiphon-server --bin antiphon -- $(ARGS)

test: setup-test
	$(MAKE) fmt lint docs check alone bench

setup-run:
	@.ci/packages gcc=build-essential cmake=cmake git=git

setup-test:
	@.ci/packages gcc=build-essential cmake=cmake git=git valgrind=valgrind chromium=chromium espeak-ng=espeak-ng
	@python3 -c 'import ensurepip' 2>/dev/null || .ci/packages ensurepip=python3-venv

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --document-private-items

check:
	$(CARGO) test --workspace --locked

# Whoever embeds the core builds it alone: as programs have it, without the bugs that tests plant.
alone:
	$(CARGO) clippy --package antiphon-core --no-default-features --locked -- -D warnings

# Instruction counts against the committed baseline: repeatable, unlike times on a shared machine. The package alone:
# the workspace together would count the checks of the feature `mutations` in, which no program has.
bench:
	$(CARGO) bench --package antiphon-core --bench instructions --locked -- --check

# Searches SEEDS (FIRST..END) of the swarm for findings; with BAD_LUCK, the core has bad luck so often of 1,000.
sweep: setup-run
	$(CARGO) run --release --locked --package antiphon-proptests --example sweep -- $(SEEDS) $(BAD_LUCK)
# Fuzzes each target (or TARGET) for SECONDS; see docs/fuzzing.md.
fuzz: setup-fuzz
	@fuzz/fuzz.sh run $(SECONDS) $(TARGET)

# Turns findings (FILE, or all of TARGET) into small inputs that `make test` runs.
fuzz-minimize: setup-fuzz
	@fuzz/fuzz.sh minimize $(TARGET) $(FILE)

setup-fuzz:
	@.ci/packages g++=build-essential
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --version 0.13.2 --locked
