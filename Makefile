# `make help` lists what there is.

CARGO ?= cargo
PYTHON ?= python3
# What cargo builds follows CARGO_TARGET_DIR; what is fetched and the demo stay in target/ here.
OUT := $(or $(CARGO_TARGET_DIR),target)/release
DEMO := target/demo
# What tests left out, a line each.
SKIPPED := $(CURDIR)/target/skipped

PREFIX ?= $(HOME)/.local
# Where GStreamer looks for a user's own plugins.
PLUGIN_DIR ?= $(HOME)/.local/share/gstreamer-1.0/plugins
BIN_DIR = $(DESTDIR)$(PREFIX)/bin
LIB_DIR = $(DESTDIR)$(PREFIX)/lib/gst-plugin-mfr
DATA_DIR = $(DESTDIR)$(PREFIX)/share/gst-plugin-mfr
DOC_DIR = $(DESTDIR)$(PREFIX)/share/doc/gst-plugin-mfr

ONNXRUNTIME_DIR := target/onnxruntime
PHOTOS := $(addprefix $(DEMO)/photos/,obama.jpg obama2.jpg obama3.jpg biden.jpg astronaut.png)
SOURCES := Cargo.toml Cargo.lock build.rs $(shell find src -type f) $(wildcard models/*.onnx models/*.json)
PLUGIN := $(OUT)/libgstmfr.so
PROGRAM := $(OUT)/mfr-enroll
CLIP_MAKER := $(OUT)/demo_clip
RECOGNIZE := $(OUT)/examples/recognize

.DELETE_ON_ERROR:
.PHONY: help build test check-loom check-overflow check-media check-limits check-asan check-tsan check-valgrind check-deny \
    check-all fuzz demo deps onnxruntime photos install uninstall clean

help:
	@echo 'make build        the plugin and mfr-enroll, in $(OUT)'
	@echo 'make demo         photos -> gallery; clip -> $(DEMO)/demo.mp4 and a table of who was seen'
	@echo 'make test         every test'
	@echo 'make check-loom   the threads that share steps, in every order in which they may run'
	@echo 'make check-overflow  the tests of the core, where arithmetic that overflows is an error'
	@echo 'make check-media  players, GES, an RTSP server and OpenCV with the elements in them'
	@echo 'make check-limits disks that are full, read-only or single files, and little memory; needs root'
	@echo 'make check-asan   the tests of unsafe code with AddressSanitizer'
	@echo 'make check-tsan   the tests of the threads with ThreadSanitizer'
	@echo 'make check-valgrind  mfr-enroll and pipelines with memcheck: memory that was never written, or is lost'
	@echo 'make check-deny   licences and sources of the crates, two versions of one, yanked ones, advisories'
	@echo 'make fuzz         each reader of files, streams and texts on made-up input, FUZZ_SECONDS=60 each'
	@echo 'make check-all    .ci/run, the above, an emulated CPU without AVX2 and two of 64-bit ARM'
	@echo 'make install      for this user: plugin to $(PLUGIN_DIR),'
	@echo '                  the rest below PREFIX=$(PREFIX)'
	@echo '                  for everybody: make build, then as root: make install PREFIX=/usr'
	@echo '                  PLUGIN_DIR=$$(pkg-config --variable=pluginsdir gstreamer-1.0)'
	@echo 'make uninstall    with the same PREFIX and PLUGIN_DIR: removes just that'
	@echo 'make clean        removes what was built; what was fetched stays'
	@echo
	@echo 'make onnxruntime  fetches ONNX Runtime, for GPUs and networks of your own; make install'
	@echo '                  installs it as well from then on'
	@echo
	@echo 'Parts of the above: make deps (packages of the system), make photos'

deps:
	@scripts/deps.sh

onnxruntime: | deps
	@$(PYTHON) scripts/fetch.py onnxruntime

photos: | deps
	@$(PYTHON) scripts/fetch.py photos

build: $(PLUGIN)

# All goals compile this package with the same profile and features, so that nothing is compiled twice.
CARGO_BUILD = $(CARGO) build --release -p gst-plugin-mfr --lib --bin mfr-enroll

$(PLUGIN) $(PROGRAM) &: $(SOURCES)
	@scripts/deps.sh
	$(CARGO_BUILD)
	@touch $(PLUGIN) $(PROGRAM)

# With the library and the program in one run, so that the cores have enough to do.
$(CLIP_MAKER) $(RECOGNIZE) &: $(SOURCES) tools/Cargo.toml $(wildcard tools/src/*.rs) tools/src/bin/demo_clip.rs examples/recognize.rs
	@scripts/deps.sh
	$(CARGO_BUILD) --example recognize -p mfr-tools --bin demo_clip
	@touch $(PLUGIN) $(PROGRAM) $(CLIP_MAKER) $(RECOGNIZE)

# A release build looks for ONNX Runtime where it is installed, and not in the source tree.
test: | deps onnxruntime photos
	@rm -f $(SKIPPED)
	ORT_DYLIB_PATH=$$(ls $(CURDIR)/$(ONNXRUNTIME_DIR)/libonnxruntime.so.* | tail -n 1) MFR_SKIPPED=$(SKIPPED) \
	    $(CARGO) test --release -p gst-plugin-mfr -p mfr-tools
	@if [ -s $(SKIPPED) ]; then echo "skipped, for lack of:"; sort $(SKIPPED) | uniq -c; else echo "no test was skipped"; fi

# A crate of its own: it includes src/threads/steps.rs and needs no other dependency than loom.
LOOM := --manifest-path tests/loom/Cargo.toml
check-loom:
	$(CARGO) fmt $(LOOM) --check
	$(CARGO) clippy $(LOOM) --target-dir $(dir $(OUT))loom --all-targets -- -D warnings
	$(CARGO) test $(LOOM) --target-dir $(dir $(OUT))loom --release

# Arithmetic that overflows ends a program of the dev profile alone.
check-overflow: | deps onnxruntime photos
	$(CARGO) test -p gst-plugin-mfr --lib --no-default-features --features draw

# Compared with neutral elements in the same place.
check-media:
	scripts/test-media.sh

check-limits:
	scripts/test-limits.sh

check-asan:
	scripts/test-asan.sh

# A crate of its own, as everything in it is compiled for it, the standard library too.
check-tsan:
	$(CARGO) fmt --manifest-path tests/tsan/Cargo.toml --check
	scripts/test-tsan.sh

check-valgrind:
	scripts/test-valgrind.sh

# Licences, duplicates, sources, yanked versions and advisories of all crates: deny.toml.
check-deny:
	scripts/test-deny.sh

check-all:
	.ci/run
	$(MAKE) check-deny
	$(MAKE) check-overflow
	$(MAKE) check-loom
	$(MAKE) check-media
	$(MAKE) check-limits
	$(MAKE) check-asan
	$(MAKE) check-tsan
	$(MAKE) check-valgrind
	$(MAKE) fuzz
	scripts/test-scalar.sh
	scripts/test-aarch64.sh

# Goes on from what earlier runs have found in target/fuzz/corpus.
FUZZ_SECONDS ?= 60
fuzz: | deps
	FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz.sh

$(PHOTOS) &:
	@scripts/deps.sh
	@$(PYTHON) scripts/fetch.py photos

# Who is enrolled: a folder for each person.
$(DEMO)/gallery.npz: $(PROGRAM) $(PHOTOS) Makefile
	@rm -rf $(DEMO)/people
	@mkdir -p '$(DEMO)/people/Barack Obama' '$(DEMO)/people/Joe Biden'
	@cp $(DEMO)/photos/obama.jpg $(DEMO)/photos/obama3.jpg '$(DEMO)/people/Barack Obama/'
	@cp $(DEMO)/photos/biden.jpg '$(DEMO)/people/Joe Biden/'
	$(PROGRAM) --dataset $(DEMO)/people --output $@

# Depends on the script, not on the program: the clip does not change with the library.
$(DEMO)/clip.mp4: tools/src/bin/demo_clip.rs $(PHOTOS) | $(CLIP_MAKER) deps
	$(CLIP_MAKER) $(DEMO)/photos $@

demo: $(RECOGNIZE) $(DEMO)/gallery.npz $(DEMO)/clip.mp4 | deps
	$(RECOGNIZE) $(DEMO)/clip.mp4 --database $(DEMO)/gallery.npz --output $(DEMO)/demo.mp4 --min-face-size 80
	@echo
	@echo 'See $(DEMO)/demo.mp4'

# ONNX Runtime is optional: it is installed if `make onnxruntime` has fetched it. If not, one that was installed before
# stays, as the new plugin can use it.
install: $(PLUGIN) $(PROGRAM)
	install -d '$(DESTDIR)$(PLUGIN_DIR)' '$(BIN_DIR)' '$(DATA_DIR)' '$(DOC_DIR)'
	install -m 755 $(PLUGIN) '$(DESTDIR)$(PLUGIN_DIR)/'
	install -m 755 $(PROGRAM) '$(BIN_DIR)/'
	@if ls $(ONNXRUNTIME_DIR)/libonnxruntime.so.* >/dev/null 2>&1; then set -ex; \
	    install -d '$(LIB_DIR)'; \
	    rm -f '$(LIB_DIR)'/libonnxruntime.so.*; \
	    install -m 644 $(ONNXRUNTIME_DIR)/libonnxruntime.so.* '$(LIB_DIR)/'; \
	fi
	scripts/install-model.sh models/facenet.onnx '$(DATA_DIR)'
	install -m 644 LICENSE THIRD_PARTY.md models/README.md '$(DOC_DIR)/'

uninstall:
	rm -f '$(DESTDIR)$(PLUGIN_DIR)/libgstmfr.so' '$(BIN_DIR)/mfr-enroll'
	rm -f '$(LIB_DIR)'/libonnxruntime.so.* '$(DATA_DIR)'/facenet.onnx '$(DATA_DIR)'/facenet-*.onnx
	rm -f $(addprefix '$(DOC_DIR)'/,LICENSE THIRD_PARTY.md README.md)
	@rmdir '$(LIB_DIR)' '$(DATA_DIR)' '$(DOC_DIR)' 2>/dev/null || true

clean:
	$(CARGO) clean --release
	$(CARGO) clean --profile dev
	rm -f $(DEMO)/*.npz $(DEMO)/*.mp4
