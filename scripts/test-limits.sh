#!/usr/bin/env bash
# mfr-enroll on disks that are full, read-only, without permissions or mounted as a single file, and with little memory.
# Needs root, for the mounts. Prints a line for each case, and what was left out.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
make --no-print-directory build photos >/dev/null
target=${CARGO_TARGET_DIR:-$PWD/target}
mfr_enroll=$target/release/mfr-enroll
photos=$PWD/target/demo/photos

work=$(mktemp -d)
mounts=()
cleanup() {
    for mount in "${mounts[@]}"; do umount "$mount" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT

passed=0 left_out=0
ok() {
    passed=$((passed + 1))
    echo "ok: $*"
}
leave_out() {
    left_out=$((left_out + 1))
    echo "left out: $*"
}
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Usage: try EXPECTED_STATUS ARGUMENT…; the output is in $work/output then.
try() {
    local expected=$1 status=0
    shift
    "$@" >"$work/output" 2>&1 || status=$?
    [ $status = "$expected" ] || fail "exit status $status instead of $expected of: $* -- $(tail -n 5 "$work/output")"
}
says() {
    grep -q -- "$1" "$work/output" || fail "the output lacks \"$1\": $(tail -n 5 "$work/output")"
}
mounted() {
    mkdir -p "${*: -1}"
    mount "$@" 2>/dev/null || return 1
    mounts=("${*: -1}" "${mounts[@]}")
}
enrol() {
    "$mfr_enroll" --dataset "$work/people" --output "$1" --masks none
}

mkdir -p "$work/people/Obama" "$work/people/Biden"
cp "$photos"/obama.jpg "$photos"/obama2.jpg "$work/people/Obama"
cp "$photos"/biden.jpg "$work/people/Biden"

if [ "$(id -u)" != 0 ] || ! mounted -t tmpfs -o size=1m tmpfs "$work/small"; then
    leave_out "everything with mounts: it needs root, and a machine that lets root mount"
else
    # A container is often given the gallery as a single file, which nothing can be renamed onto.
    echo old >"$work/outside.npz"
    touch "$work/single.npz"
    mount --bind "$work/outside.npz" "$work/single.npz"
    mounts=("$work/single.npz" "${mounts[@]}")
    try 0 enrol "$work/single.npz"
    try 0 "$mfr_enroll" list --database "$work/outside.npz"
    says Obama
    [ "$(find "$work" -maxdepth 1 -name '*single*' | wc -l)" = 1 ] || fail "something is left beside the mounted file"
    ok "a gallery that is a mount of its own is overwritten"

    # Full: the old gallery stays, and nothing else does.
    enrol "$work/small/gallery.npz" >/dev/null 2>&1
    sum=$(sha256sum <"$work/small/gallery.npz")
    dd if=/dev/zero of="$work/small/filler" bs=1k status=none 2>/dev/null || true
    try 1 enrol "$work/small/gallery.npz"
    says 'No space left on device'
    ! grep -qE 'Os \{|panicked|os error.*os error' "$work/output" || fail "debug text: $(cat "$work/output")"
    [ "$(sha256sum <"$work/small/gallery.npz")" = "$sum" ] || fail "the gallery was changed"
    rm "$work/small/filler"
    try 0 enrol "$work/small/gallery.npz"
    ok "a full disk is an error, the gallery before stays, and the next run goes through"

    mounted -t tmpfs -o size=1m,ro tmpfs "$work/read-only"
    try 1 enrol "$work/read-only/gallery.npz"
    says 'Read-only file system'
    ok "a read-only disk is an error before the work"

    dd if=/dev/zero of="$work/fat.img" bs=1M count=16 status=none
    if command -v mkfs.vfat >/dev/null && mkfs.vfat "$work/fat.img" >/dev/null && mounted -o loop "$work/fat.img" "$work/fat"; then
        try 0 enrol "$work/fat/gallery.npz"
        says 'keeps no permissions'
        try 0 "$mfr_enroll" list --database "$work/fat/gallery.npz"
        ok "a disk without permissions (FAT) is a warning"
    else
        leave_out "a disk without permissions: it needs mkfs.vfat (apt install dosfstools) and a loop device"
    fi

    if command -v setpriv >/dev/null; then
        install -m 600 "$work/outside.npz" "$work/private.npz"
        chmod 755 "$work"
        cp "$mfr_enroll" "$work/mfr-enroll"
        try 1 setpriv --reuid 65534 --clear-groups "$work/mfr-enroll" list --database "$work/private.npz"
        says 'Permission denied'
        ok "a gallery of somebody else is an error"
    else
        leave_out "a gallery of somebody else: it needs setpriv"
    fi
fi

# A white PNG of 100 megapixels in 1.3 MB, and the same as a baseline JPEG, which is scaled down.
python3 - "$work/large.png" <<'PYTHON'
import struct, sys, zlib
width, height = 10_000, 9_999
packer = zlib.compressobj(1)
rows = b"".join(packer.compress(b"\0" + b"\xff" * width * 3) for _ in range(height)) + packer.flush()
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
with open(sys.argv[1], "wb") as png:
    png.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
PYTHON
for limit in 100000 250000 400000 700000; do
    try 1 bash -c "ulimit -v $limit; exec '$mfr_enroll' identify '$work/large.png'"
    says 'of memory, more than there is'
done
try 0 bash -c "ulimit -v 250000; exec '$mfr_enroll' identify '$photos/obama.jpg'"
ok "an image that is too large for the memory is an error"
/usr/bin/env time -f %M "$mfr_enroll" identify "$work/large.png" >"$work/output" 2>&1 || true
peak=$(tail -n 1 "$work/output")
case $peak in
*[!0-9]*) leave_out "the memory for an image of 100 megapixels: it needs the program time" ;;
*) [ "$peak" -lt 700000 ] || fail "100 megapixels took $peak kB"; ok "an image of 100 megapixels takes $((peak / 1000)) MB" ;;
esac

echo "test-limits: $passed passed, $left_out left out"
