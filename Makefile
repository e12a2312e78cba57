# berth: what a newcomer types. `make demo` and `make test` need Debian or Ubuntu, root and rustup's cargo.

TARGET  ?= x86_64-unknown-linux-musl
PREFIX  ?= /usr/local
BERTH   := target/$(TARGET)/release/berth

.PHONY: help build demo test fmt lint soak bench conformance install uninstall clean conformance-registry

help:
	@echo 'make demo     build berth, build examples/my-web-app with it, run it, curl it'
	@echo 'make test     install what the tests need, check, build, run every test'
	@echo 'make soak     long runs: kills, faults, crowds (docs/reliability.md); half an hour'
	@echo 'make build    the static release binary: $(BERTH)'
	@echo 'make conformance-registry  the OCI distribution suite against berth registry serve; SHARED=1 over S3 and PostgreSQL'
	@echo 'make bench    berth beside its peers, as ratios, and against its targets (docs/benchmarks.md)'
	@echo 'make conformance  others'\'' suites against berth runtime, runc and crun; SUITE=runtime-tools|crun|runc for one (docs/conformance.md)'
	@echo 'make install  berth, systemd units and shell completion below $(PREFIX)'

build:
	@scripts/prepare build
	cargo build --release --locked --target $(TARGET) -p berth

demo: build
	@scripts/demo $(BERTH)

test:
	@scripts/prepare test
	@scripts/test

soak:
	@scripts/prepare test
	@scripts/soak

fmt:
	cargo fmt --all

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked

bench: build
	@benches/run $(BERTH)
	@benches/depth $(BERTH)

conformance-registry:
	@scripts/prepare $(if $(SHARED),test,build)
	cargo build --locked -p berth
	@conformance/registry target/debug/berth $(if $(SHARED),--shared)

conformance: build
	@scripts/conformance $(BERTH) $(if $(SUITE),--suite $(SUITE))

install: build
	@scripts/install $(BERTH) $(PREFIX)

uninstall:
	@scripts/uninstall $(PREFIX)

clean:
	cargo clean
