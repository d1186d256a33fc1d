#!/usr/bin/env bash
# Runs mfr-enroll and pipelines under valgrind's memcheck: no branch, address or output may depend on memory that was
# never written, which AddressSanitizer does not see, and nothing may be lost that GLib and GStreamer do not lose. With the
# scalar kernels and with those for AVX2: valgrind's CPU has no more.
# Installs valgrind with apt-get if it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

# What GLib does on purpose, as its makers list it.
glib=/usr/share/glib-2.0/valgrind/glib.supp
if ! command -v valgrind >/dev/null || [ ! -e $glib ]; then
    root=
    [ "$(id -u)" = 0 ] || root=sudo
    $root apt-get update -qq
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove \
        valgrind libglib2.0-dev >/dev/null
fi
make --no-print-directory build photos >/dev/null

target=${CARGO_TARGET_DIR:-$PWD/target}
program=$target/release/mfr-enroll
photos=$PWD/target/demo/photos
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# A plugin or library of this machine must not stand in for the one that is tested. GLib's slices hide from valgrind what
# they hold.
unset GST_PLUGIN_PATH_1_0 GST_REGISTRY_1_0
export GST_PLUGIN_PATH=$target/release GST_REGISTRY=$scratch/registry GST_REGISTRY_FORK=no
export ORT_DYLIB_PATH=/nowhere/libonnxruntime.so G_SLICE=always-malloc
# Makes the registry outside of valgrind.
gst-inspect-1.0 mfrdetect >/dev/null

# When GLib's array of quarks is full it makes a larger one and keeps the old one, which other threads may read.
cat >"$scratch/more.supp" <<'SUPPRESSIONS'
{
    the array of quarks that GLib made when it was loaded
    Memcheck:Leak
    match-leak-kinds: definite
    fun:malloc
    fun:g_malloc
    obj:*/libglib-2.0.so*
    obj:*/libglib-2.0.so*
    fun:call_init
}
SUPPRESSIONS

cpus=(scalar)
[ "$(uname -m)" != x86_64 ] || ! grep -qw avx2 /proc/cpuinfo || cpus+=(avx2)

passed=0
# Usage: check NAME COMMAND…; the output is in $scratch/output then.
check() {
    local name=$1 begin=$SECONDS status=0
    shift
    valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
        --num-callers=30 "--suppressions=$glib" "--suppressions=$scratch/more.supp" "$@" >"$scratch/output" 2>&1 || status=$?
    if [ $status != 0 ]; then
        tail -n 100 "$scratch/output"
        echo "test-valgrind: FAILED with status $status: $name, $MFR_CPU" >&2
        exit 1
    fi
    passed=$((passed + 1))
    echo "ok: $name, $MFR_CPU ($((SECONDS - begin)) s)"
}
says() {
    grep -q -- "$1" "$scratch/output" || {
        tail -n 20 "$scratch/output"
        echo "test-valgrind: the output lacks $1" >&2
        exit 1
    }
}

mkdir -p "$scratch/people/Barack Obama" "$scratch/people/Joe Biden"
cp "$photos/obama.jpg" "$scratch/people/Barack Obama"
cp "$photos/biden.jpg" "$scratch/people/Joe Biden"
gallery=$scratch/gallery.npz
formats=(I420 YV12 NV12 NV21 YUY2 UYVY RGB BGR RGBA xBGR GRAY8)

for MFR_CPU in "${cpus[@]}"; do
    export MFR_CPU
    rm -f "$gallery"
    # A mask is painted on a copy of each photo.
    check "mfr-enroll" "$program" --dataset "$scratch/people" --output "$gallery" --mask-copies 1
    check "mfr-enroll identify" "$program" identify --json --database "$gallery" "$photos/obama2.jpg"
    says '"Barack Obama"'

    photo=(filesrc "location=$photos/obama2.jpg" ! jpegdec ! videoconvert ! videoscale)
    recognise=(mfrdetect ! mfrrecognize "database=$gallery" model=models/facenet.onnx ! mfroverlay ! fakesink)
    check "a pipeline of all three elements" gst-launch-1.0 -m "${photo[@]}" ! video/x-raw,width=313,height=600 \
        ! imagefreeze num-buffers=4 ! "${recognise[@]}"
    says 'mfrrecognize,.*Barack.*Obama'

    # An odd size has rows and columns beyond the last whole pair of pixels.
    branches=()
    for format in "${formats[@]}"; do
        branches+=(t. ! queue ! videoconvert ! "video/x-raw,format=$format" ! mfrdetect ! mfroverlay ! fakesink async=false)
    done
    check "every kind of pixel format" gst-launch-1.0 "${photo[@]}" ! video/x-raw,width=157,height=301 \
        ! imagefreeze num-buffers=2 ! tee name=t "${branches[@]}"
done
echo "test-valgrind: $passed passed, on ${cpus[*]}"
