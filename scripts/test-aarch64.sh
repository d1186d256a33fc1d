#!/usr/bin/env bash
# Builds the library, the plugin and mfr-enroll for 64-bit ARM on a PC with Debian 12, and runs there, on an emulated
# CPU with SDOT (Cortex-A76, as in a Raspberry Pi 5) and on one with plain NEON (Cortex-A72, as in a Raspberry Pi 4):
# the tests of the core, mfr-enroll and a pipeline.
#
#     scripts/test-aarch64.sh             all of it
#     scripts/test-aarch64.sh TEST…       the tests of the core whose names contain one of these, nothing else
#     scripts/test-aarch64.sh --bench B   builds the benchmark B of the core, runs nothing and prints its path
#
# To be run as root, or with sudo at hand: the compiler, the linker and the emulator are installed with apt-get.
# Packages of ARM are not installed but unpacked below target/aarch64, so the system stays one of a single
# architecture. A second run fetches nothing and builds only what has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TARGET=aarch64-unknown-linux-gnu
# Debian's name of it.
readonly MULTIARCH=aarch64-linux-gnu
# The emulated CPUs, and the kernels that must run there.
readonly -A KERNELS=([cortex-a76]=neon-dotprod [cortex-a72]=neon)
readonly CPUS=(cortex-a76 cortex-a72)

root=$PWD/target/aarch64
sysroot=$root/sysroot
binaries=$root/build/$TARGET/release

# rustc-web: rustup has the standard library of ARM too, but only where it may fetch. This compiler comes with one.
readonly HOST_PACKAGES=(rustc-web gcc-aarch64-linux-gnu qemu-user)
# What the plugin is linked with, and the elements of the pipeline.
readonly ARM_PACKAGES=(libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev gstreamer1.0-tools
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good)

die() {
    echo "test-aarch64.sh: $*" >&2
    exit 1
}

# Usage: installed_version PACKAGE
installed_version() {
    dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2>/dev/null | sed -n 's/^installed //p'
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

install_host_packages() {
    local package missing=()
    for package in "${HOST_PACKAGES[@]}"; do
        [ -n "$(installed_version "$package")" ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing ${missing[*]}"
    as_root apt-get update -qq
    # Debian's own rustc and rustup are in conflict with rustc-web: whoever has them is asked, not robbed.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove \
        "${missing[@]}" >/dev/null
}

# apt-get for ARM with the sources of this machine, which knows of no installed package and installs none.
arm_apt_get() {
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Install-Recommends=false \
        -o APT::Sandbox::User="$(id -un)" -o Dir::State="$root/apt" -o Dir::State::status="$root/apt/status" \
        -o Dir::Cache="$root/apt" "$@"
}

# The standard library must be of exactly the compiler's version, so a newer compiler asks for another sysroot.
fetch_sysroot() {
    local wanted version debs deb link
    version=$(installed_version rustc-web)
    wanted="rustc-web $version ${ARM_PACKAGES[*]}"
    if [ "$(cat "$sysroot/complete" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    echo "fetching and unpacking the packages of ARM"
    rm -rf "$sysroot" "$root/apt"
    mkdir -p "$root/apt/lists/partial" "$root/apt/archives/partial" "$sysroot/usr/lib"
    : >"$root/apt/status"
    # A source of somebody else need not have this architecture: what is missing in the end is told below.
    arm_apt_get update || true
    arm_apt_get install -y --download-only "${ARM_PACKAGES[@]}"
    # Without what it depends on: that is for compiling on ARM.
    (cd "$root/apt/archives" && arm_apt_get download "libstd-rust-web-dev=$version") ||
        die "there is no libstd-rust-web-dev $version for ARM: apt-get update && apt-get install rustc-web"

    # Files of some packages lie in /lib, which is a link to /usr/lib in an installed system.
    ln -s usr/lib "$sysroot/lib"
    debs=("$root"/apt/archives/*.deb)
    for deb in "${debs[@]}"; do
        dpkg-deb --fsys-tarfile "$deb" |
            tar -x --no-same-owner --keep-directory-symlink --exclude=./usr/share/doc -C "$sysroot"
    done
    # Absolute links lead into this machine's own files.
    find "$sysroot" -type l -lname '/*' | while IFS= read -r link; do
        ln -sfnr "$sysroot$(readlink "$link")" "$link"
    done
    rm -rf "$root/apt"
    echo "$wanted" >"$sysroot/complete"
}

# The compiler's own folder, with the standard library of ARM beside that of this machine.
make_rust_sysroot() {
    local own
    own=$(/usr/bin/rustc --print sysroot)/lib/rustlib
    mkdir -p "$root/rust/lib/rustlib"
    ln -sfn "$own/x86_64-unknown-linux-gnu" "$root/rust/lib/rustlib/"
    ln -sfn "$sysroot/usr/lib/rustlib/$TARGET" "$root/rust/lib/rustlib/"
}

# cargo for ARM, in a folder of its own: another compiler than that of the rest.
# Usage: arm_cargo COMMAND [OPTION…]
arm_cargo() {
    local pkg_config=$sysroot/usr/lib/$MULTIARCH/pkgconfig:$sysroot/usr/share/pkgconfig
    env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u RUSTUP_TOOLCHAIN \
        RUSTC=/usr/bin/rustc CARGO_TARGET_DIR="$root/build" \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$MULTIARCH-gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="--sysroot=$root/rust -C link-arg=--sysroot=$sysroot" \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="${emulator[*]}" \
        PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_SYSROOT_DIR="$sysroot" PKG_CONFIG_LIBDIR="$pkg_config" \
        cargo "$1" --release --target $TARGET "${@:2}"
}

# Usage: step NAME COMMAND…
step() {
    local name=$1 begin=$SECONDS
    shift
    echo "==> $name"
    "$@" </dev/null
    echo "==> $name: $((SECONDS - begin)) s"
}

# Usage: make_gallery GALLERY
make_gallery() {
    local people=$root/people
    rm -rf "$people"
    mkdir -p "$people/Barack Obama" "$people/Joe Biden"
    cp target/demo/photos/{obama,obama3}.jpg "$people/Barack Obama/"
    cp target/demo/photos/biden.jpg "$people/Joe Biden/"
    # Painted masks would be eight photos more of each.
    "${emulator[@]}" "$binaries/mfr-enroll" --dataset "$people" --output "$1" --masks none
}

# Usage: check_kernels OUTPUT
check_kernels() {
    "${emulator[@]}" "$binaries/mfr-enroll" model models/*.onnx | tee "$1"
    ! grep -q onnxruntime "$1" || die "a network is left to ONNX Runtime on $cpu"
    grep -Eq "aarch64-[a-z0-9]+-${KERNELS[$cpu]}( |,|$)" "$1" || die "the kernels on $cpu are not ${KERNELS[$cpu]}"
}

# Usage: identify GALLERY OUTPUT
identify() {
    "${emulator[@]}" "$binaries/mfr-enroll" identify --json --database "$1" target/demo/photos/obama2.jpg | tee "$2"
    grep -q '"Barack Obama"' "$2" || die "mfr-enroll does not name Barack Obama on $cpu"
}

# Usage: pipeline GALLERY OUTPUT
pipeline() {
    env GST_REGISTRY_FORK=no GST_REGISTRY="$root/registry.bin" GST_PLUGIN_PATH_1_0="$root/plugins" \
        GST_PLUGIN_SYSTEM_PATH_1_0="$sysroot/usr/lib/$MULTIARCH/gstreamer-1.0" \
        "${emulator[@]}" "$sysroot/usr/bin/gst-launch-1.0" -m filesrc location=target/demo/photos/obama2.jpg \
        ! jpegdec ! videoconvert ! mfrdetect ! mfrrecognize database="$1" ! fakesink >"$2"
    grep 'mfrrecognize,' "$2" || true
    # Structures within structures are printed with their spaces escaped.
    grep -q 'mfrrecognize,.*Barack.*Obama' "$2" || die "mfrrecognize does not name Barack Obama on $cpu"
}

# Usage: test_core [TEST…]
test_core() {
    local output=$root/tests-$cpu.txt
    arm_cargo test --lib --no-default-features -- "$@" 2>&1 | tee "$output"
    passed=$(sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' "$output")
    [ "${passed:-0}" -gt 0 ] || die "no test of the core has passed on $cpu"
}

# The path of a benchmark is all that goes to the standard output then.
exec 3>&1
[ "${1:-}" != --bench ] || exec >&2
step "packages of this machine" install_host_packages
step "packages of ARM" fetch_sysroot
make_rust_sysroot
python3 scripts/fetch.py photos
# The emulator looks for files below the sysroot first: there is no ONNX Runtime for tests, rather than one of a PC.
mkdir -p "$sysroot$PWD/target/onnxruntime" "$root/plugins"

emulator=(qemu-aarch64 -L "$sysroot")
if [ "${1:-}" = --bench ]; then
    arm_cargo build --bench "$2" --no-default-features
    ls -t "$binaries/deps/$2"-* | grep -v '\.d$' | head -1 >&3
    exit
fi
if [ $# = 0 ]; then
    step "build" arm_cargo build --lib --bins
    cp "$binaries/libgstmfr.so" "$root/plugins/"
fi
step "build of the tests" arm_cargo test --lib --no-default-features --no-run

results=()
for cpu in "${CPUS[@]}"; do
    emulator=(qemu-aarch64 -L "$sysroot" -cpu "$cpu")
    step "$cpu: tests of the core" test_core "$@"
    result="$passed tests of the core"
    if [ $# = 0 ]; then
        gallery=$root/gallery-$cpu.npz
        step "$cpu: kernels" check_kernels "$root/kernels-$cpu.txt"
        step "$cpu: enrolment" make_gallery "$gallery"
        step "$cpu: mfr-enroll identify" identify "$gallery" "$root/identified-$cpu.json"
        step "$cpu: pipeline" pipeline "$gallery" "$root/pipeline-$cpu.txt"
        result+=", mfr-enroll identify, a pipeline"
    fi
    results+=("$cpu: $result")
done
printf -v line '%s; ' "${results[@]}"
echo "test-aarch64.sh: passed on ${line%; }"
