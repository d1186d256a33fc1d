#!/usr/bin/env bash
# The tests of src/threads with ThreadSanitizer, in a crate that holds it alone (tests/tsan): no two threads may use the
# same memory without an order between them. It follows the orders that happen in these runs, with the real primitives;
# loom follows all orders, of a model (make check-loom).
#
# Everything must be compiled for it, the standard library too. Stable toolchains do not bring its source; Debian 12 has a
# compiler with it (rustc-web, rust-web-src) and a runtime of the sanitizer of the same LLVM: they are installed with
# apt-get. Where there are no such packages, nothing is tested and the last line says so.
set -euo pipefail
cd "$(dirname "$0")/.."

leave_out() {
    echo "test-tsan: left out: $*"
    exit 0
}

[ "$(uname -m)" = x86_64 ] || leave_out "this is no x86-64 machine"
command -v apt-get >/dev/null || leave_out "it needs packages of Debian"

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}
install() {
    local package missing=()
    for package; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local root=
    [ "$(id -u)" = 0 ] || root=sudo
    $root apt-get update -qq
    # Debian's own rustc and rustup are in conflict with rustc-web: whoever has them is asked, not robbed.
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove \
        "${missing[@]}" >/dev/null
}
install rustc-web rust-web-src || leave_out "rustc-web and rust-web-src cannot be installed"
rustc=/usr/bin/rustc
llvm=$($rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
install "libclang-rt-$llvm-dev" || leave_out "libclang-rt-$llvm-dev cannot be installed"
runtime=/usr/lib/llvm-$llvm/lib/clang/$llvm/lib/linux

root=$PWD/target/tsan
target=x86_64-unknown-linux-gnu
mkdir -p "$root"
# The runtime comes before all other libraries, which call it instead of the C library, in programs of ours and not in
# build scripts and procedural macros. A name with gcc in it tells rustc which options there are.
cat >"$root/tsan-gcc" <<LINKER
#!/bin/sh
case "\$*" in
*" -o $root/build/$target/"*) exec cc -Wl,--no-as-needed $runtime/libclang_rt.tsan-x86_64.so -Wl,-rpath,$runtime "\$@" ;;
*) exec cc "\$@" ;;
esac
LINKER
chmod +x "$root/tsan-gcc"

unset RUSTUP_TOOLCHAIN
# addr2line is of binutils, without which nothing is linked. The first report ends the tests.
export TSAN_OPTIONS="external_symbolizer_path=$(command -v addr2line) halt_on_error=1 history_size=4 ${TSAN_OPTIONS:-}"
export CARGO_TARGET_DIR="$root/build"
# The source of the standard library is looked for beside the compiler.
export RUSTC=$rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Zexternal-clangrt"
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER="$root/tsan-gcc"
${CARGO:-cargo} test -Zbuild-std --locked --manifest-path tests/tsan/Cargo.toml --target $target --release --lib "$@"
echo "test-tsan: passed"
