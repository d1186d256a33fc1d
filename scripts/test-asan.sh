#!/usr/bin/env bash
# The tests of everything that has unsafe code (SIMD kernels, aligned memory, the mirror of the metas) and of the pixel
# readers, with AddressSanitizer. A stable toolchain will do: its sanitizer is asked for with RUSTC_BOOTSTRAP.
# For races see scripts/test-tsan.sh and tests/loom.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
# Naming the target keeps the sanitizer from build scripts and procedural macros.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/asan"
# GLib, fonts and what is loaded once are never freed. ONNX Runtime is not compiled for it.
export ASAN_OPTIONS=detect_leaks=0 MFR_ENGINE=own
unset ORT_DYLIB_PATH
${CARGO:-cargo} test --release --target "$host" -p gst-plugin-mfr --lib -- nn:: frame:: detect:: plugin::meta draw:: threads::
echo "test-asan: passed"
