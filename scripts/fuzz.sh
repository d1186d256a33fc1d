#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/ one after the other, or those that are named, for FUZZ_SECONDS each (60). Every run goes
# on from what earlier ones have found worth keeping, in target/fuzz/corpus/TARGET. An input that ends a target is left in
# target/fuzz/findings/TARGET; run it again with: target/fuzz/run TARGET FILE
# A stable toolchain will do: its sanitizer and coverage are asked for with RUSTC_BOOTSTRAP. libFuzzer is C++: installs a
# compiler with apt-get if there is none.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v c++ >/dev/null; then
    root=
    [ "$(id -u)" = 0 ] || root=sudo
    $root apt-get update -qq
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++ >/dev/null
fi

# With --check nothing is run: the targets are compiled, because they use modules of the program by their paths.
if [ "${1:-}" = --check ]; then
    exec "${CARGO:-cargo}" check --locked --manifest-path fuzz/Cargo.toml --bins
fi

targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(gallery onnx frames meta partial import region photo)
seconds=${FUZZ_SECONDS:-60}
work=$PWD/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-$PWD/target}/fuzz/build

# Naming the target keeps these flags from build scripts and procedural macros.
RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$build RUSTFLAGS="-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Zsanitizer=address --cfg fuzzing" \
    ${CARGO:-cargo} build --release --locked --manifest-path fuzz/Cargo.toml --target "$host" \
    "${targets[@]/#/--bin=}"

# GLib, fonts and what is loaded once are never freed. Memory beyond the limit is a finding: the largest budget of a file
# is far below it.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
# What GLib calls critical is a mistake of ours. It reads this before a target's first line runs.
export G_DEBUG=fatal-criticals
limits=(-timeout=30 -rss_limit_mb=3000 -malloc_limit_mb=2000)

mkdir -p "$work"
# Targets write files for each input, and end without removing their folders.
TMPDIR=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
cat >"$work/run" <<RUN
#!/bin/sh
target=\$1
shift
ASAN_OPTIONS=$ASAN_OPTIONS G_DEBUG=$G_DEBUG exec $build/$host/release/\$target ${limits[*]} "\$@"
RUN
chmod +x "$work/run"

failed=0
printf '%-10s %12s %9s %8s %9s  %s\n' target executions seconds corpus coverage found
for target in "${targets[@]}"; do
    corpus=$work/corpus/$target findings=$work/findings/$target seeds=$work/seeds/$target log=$work/logs/$target
    rm -rf "$seeds"
    mkdir -p "$corpus" "$findings" "$seeds" "$work/logs"
    FUZZ_SEEDS=$seeds "$work/run" "$target" >"$log" 2>&1
    options=()
    [ ! -f "fuzz/dictionaries/$target" ] || options=("-dict=fuzz/dictionaries/$target")
    begin=$SECONDS
    found=nothing
    "$work/run" "$target" "${options[@]}" -max_total_time="$seconds" -max_len=32768 -len_control=20 \
        -print_final_stats=1 "-artifact_prefix=$findings/" "$corpus" "$seeds" >>"$log" 2>&1 || {
        failed=1
        found=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        found="${found:-nothing that could be written}, see $log"
    }
    printf '%-10s %12s %9s %8s %9s  %s\n' "$target" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" $((SECONDS - begin)) \
        "$(find "$corpus" -type f | wc -l)" "$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)" "$found"
done
exit $failed
