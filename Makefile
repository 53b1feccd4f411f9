# Thin: Meson does the work.  `make demo` and `make test` start from a bare
# Debian 12 and install what is missing (as root, or by sudo).
BUILD ?= build
MESON_ARGS ?=
NINJA := ninja -C

.PHONY: all deps build demo test test-quick bench fuzz check clean install

all: build

deps:
	@scripts/install-deps build run

$(BUILD)/build.ninja:
	meson setup $(BUILD) $(MESON_ARGS)

build: $(BUILD)/build.ninja
	@$(NINJA) $(BUILD) --quiet

demo: deps build
	@scripts/demo $(BUILD)

# Everything: style, unit and end-to-end suites under ASan and UBSan, the
# copier under TSan, the unit suite under valgrind, real third-party software.
test:
	@scripts/install-deps build run test fuzz
	@scripts/run-tests

# The same suites once, without instruments.
test-quick: build
	@scripts/run-tests --quick

# The copier against nbdkit, nbdcopy and qemu-nbd: docs/performance.md.
# BENCH="--only link --repeat 5" and the like; tests/bench/bench --help.
bench:
	@scripts/install-deps build run test
	@test -f build-bench/build.ninja || \
	  meson setup build-bench -Dbuildtype=release -Dwerror=true >/dev/null
	@$(NINJA) build-bench --quiet
	@tests/bench/bench --json build-bench/bench.json $(BENCH)

# FUZZ_SECONDS=60 for each of TARGETS (all), with what was learnt before.
fuzz:
	@scripts/install-deps build fuzz
	@scripts/fuzz $(TARGETS)

check:
	@tools/check-layers src/LAYERS src/*/*.[ch] lab/*.[ch] lab/*/*.[ch]
	@tools/check-style

install: build
	meson install -C $(BUILD)

clean:
	rm -rf build build-*
