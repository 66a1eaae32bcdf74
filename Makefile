# The front door. Meson and ninja build; this file only names what a person wants.
#
#   make run            from nothing to answers: packages, build, model, a table of real text, search
#   make test           everything that proves it
#   make                build/vecmill and libvecmill
#   make help           the rest

BUILD       := build
PREFIX      ?= /usr/local
DESTDIR     ?=
ROWS        ?= 2000
FUZZ_SECONDS ?= 60
export VECMILL_HOME ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vecmill

.PHONY: all run test torture bench bench-ingest bench-peers parity fuzz install clean help
.NOTPARALLEL:

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) >$(BUILD)/ninja.txt || { cat $(BUILD)/ninja.txt; exit 1; }

$(BUILD)/build.ninja: | packages
	@meson setup $(BUILD) >/dev/null || { meson setup $(BUILD); exit 1; }

.PHONY: packages
packages:
	@scripts/packages build

run:
	@ROWS=$(ROWS) scripts/demo

test:
	@scripts/packages test
	@scripts/fetch_model.py >/dev/null
	@scripts/pg_binaries.py >/dev/null
	@scripts/run_tests.py

torture:
	@scripts/packages test
	@scripts/fetch_model.py >/dev/null
	@scripts/pg_binaries.py >/dev/null
	@scripts/run_tests.py --torture $(PARTS)

bench: all
	@scripts/packages run
	@scripts/bench

bench-ingest: all
	@scripts/packages run
	@scripts/pg_binaries.py >/dev/null
	@scripts/bench_ingest.py

bench-peers: all
	@scripts/packages run
	@scripts/bench --peers

parity: all
	@scripts/packages run
	@scripts/parity

fuzz:
	@scripts/packages test
	@scripts/run_fuzz.py --seconds $(FUZZ_SECONDS)

install: all
	@meson configure $(BUILD) -Dprefix="$$(realpath -m -- "$(PREFIX)")"
	@ninja -C $(BUILD) >/dev/null
	@meson install -C $(BUILD) --quiet $(if $(DESTDIR),--destdir "$$(realpath -m -- "$(DESTDIR)")")
	@echo "installed under $(DESTDIR)$$(realpath -m -- "$(PREFIX)")"

# the model, the peers' virtual environment and the tests' PostgreSQL, under $VECMILL_HOME, stay
clean:
	@rm -rf $(BUILD)

help:
	@echo 'make                build/vecmill and libvecmill (shared and static)'
	@echo 'make run            the whole thing on real text; ROWS=2000, ROWS=all'
	@echo 'make test           all tests, as CI runs them'
	@echo 'make torture        the long forms: 210 kills, edits throughout, every golden text on every variant'
	@echo 'make bench          speed and memory, this machine'
	@echo 'make bench-ingest   rows a second into PostgreSQL, beside bare statements and a Python script'
	@echo 'make bench-peers    the same beside ONNX Runtime and sentence-transformers'
	@echo 'make parity         ids and vectors against the real sentence-transformers'
	@echo 'make fuzz           each fuzz target for FUZZ_SECONDS=60'
	@echo 'make install        PREFIX=/usr/local, DESTDIR='
	@echo 'make clean          removes build/; keeps $$VECMILL_HOME (models, peers, pg)'
