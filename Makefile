# Two commands do everything: `make run` starts the server, `make test` checks the whole tree.
# Both install what they lack through apt when they may, and otherwise name the packages.

CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: run test setup-run setup-test fmt lint docs check bench sweep clean-output

run: setup-run
	$(CARGO) run --release --locked --package antiphon-server --bin antiphon -- $(ARGS)

test: setup-test
	$(MAKE) fmt lint docs check bench

setup-run:
	@.ci/packages gcc=build-essential

setup-test:
	@.ci/packages gcc=build-essential valgrind=valgrind chromium=chromium

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --document-private-items

check:
	$(CARGO) test --workspace --locked

# Instruction counts against the committed baseline: repeatable, unlike times on a shared machine.
bench:
	$(CARGO) bench --workspace --bench instructions --locked -- --check

# Searches SEEDS (FIRST..END) of the swarm for findings; with BAD_LUCK, the core has bad luck so often of 1,000.
sweep: setup-run
	$(CARGO) run --release --locked --package antiphon-proptests --example sweep -- $(SEEDS) $(BAD_LUCK)
