# Recipes of the project. `make run` starts the service, `make test` proves it, `make bench` measures it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build check test bench reproducible

TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# One column past the width of code, which rustfmt keeps by itself.
COMMENT_TOO_LONG := $(shell expr $$(sed -n 's/^max_width = //p' rustfmt.toml) + 1)
LISTEN ?= 127.0.0.1:7070
DATA ?= ./data

export KEYLEDGER_BIN_DIR ?= $(TARGET_DIR)/release

# Panic messages name source files. With the directories in these names a binary would tell where it was built, and
# differ from one of the same source that was built elsewhere. All release builds share the flags, and so a cache.
CARGO_DIR := $(or $(CARGO_HOME),$(HOME)/.cargo)
RELEASE_FLAGS := --remap-path-prefix=$(CURDIR)=/keyledger --remap-path-prefix=$(TARGET_DIR)=/target \
  --remap-path-prefix=$(CARGO_DIR)=/cargo
run build bench: export CARGO_BUILD_RUSTFLAGS := $(RELEASE_FLAGS)
# The allocator's C code contains the time of its compilation, which compilers take from here if it is set.
run build bench: export SOURCE_DATE_EPOCH := 0

help: ## list the recipes
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 19

# A pair for TLS=1: for development only, as nobody but its maker has a reason to trust it.
CERTIFICATE := $(DATA)/development/cert.pem
PRIVATE_KEY := $(DATA)/development/key.pem

run: $(if $(TLS),$(CERTIFICATE)) ## build and start the service on 127.0.0.1:7070 with its data in ./data; TLS=1 for https
	cargo build --release --package keyledger-api --bin keyledger
	exec $(TARGET_DIR)/release/keyledger serve --listen $(LISTEN) --data $(DATA) \
	  $(if $(TLS),--tls-cert $(CERTIFICATE) --tls-key $(PRIVATE_KEY))

$(CERTIFICATE):
	install -d -m 700 $(DATA) $(@D)
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=localhost \
	  -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout $(PRIVATE_KEY) -out $@
	@echo "created $@; clients must trust it, as in curl --cacert $@"

# The binaries that ship have no symbols; a debugger or a backtrace finds them in BINARY.debug beside it.
build: ## build the release binaries, with their symbols and lists of components (CycloneDX) beside them
	cargo build --release --package keyledger-api --package keyledger-replay-tool --package keyledger-examples --bins
	cd $(TARGET_DIR)/release && for binary in keyledger replay-tool; do \
	  objcopy --only-keep-debug $$binary $$binary.debug; \
	  objcopy --strip-all --add-gnu-debuglink=$$binary.debug $$binary $$binary.stripped; \
	  mv $$binary.stripped $$binary; \
	done
	tests/sbom.py keyledger-api > $(TARGET_DIR)/release/keyledger.cdx.json
	tests/sbom.py keyledger-replay-tool > $(TARGET_DIR)/release/replay-tool.cdx.json

reproducible: build ## build a second time, in another directory, and compare the binaries
	tests/reproducible.sh $(TARGET_DIR)/release

CARGO_DENY := tests/tools/bin/cargo-deny --log-level error

check: ## formatting, lints, documentation and dependencies
	tests/tools-install.sh check
	cargo fmt --all --check
	! git grep -nP '^(?=.{$(COMMENT_TOO_LONG)})\s*//' -- '*.rs'  # comments wrap where code does
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	$(CARGO_DENY) check bans licenses sources
	if $(CARGO_DENY) fetch db; then $(CARGO_DENY) check advisories; \
	  else echo "check: the advisory database is out of reach; advisories are not checked"; fi

# The real binaries are what the tests of the outside drive, so they are built first.
# Doc tests run before the rest because cargo-nextest does not run them and the runner's summary closes the recipe.
test: ## install what the tests need, check, build, and run every test
	tests/tools-install.sh test
	$(MAKE) --no-print-directory check
	$(MAKE) --no-print-directory build
	if cargo nextest --version >/dev/null 2>&1; then \
	  cargo test --workspace --doc --locked; \
	  cargo nextest run --workspace --locked; \
	else \
	  cargo test --workspace --locked; \
	fi

bench: ## install what the benchmarks need and print the ratios
	tests/tools-install.sh bench
	$(MAKE) --no-print-directory build
	cargo bench --package keyledger-projections --locked
	cargo run --release --package keyledger-tests --bin bench --locked
