#!/usr/bin/env bash
# Runs mfr-enroll on an emulated x86-64 CPU of before AVX2 (Nehalem) and without ONNX Runtime: finding, embedding and
# naming faces must work with the scalar kernels alone, without an instruction that the CPU has not.
# Installs the emulator with apt-get if it is missing. On another architecture there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(uname -m)" != x86_64 ]; then
    echo "test-scalar.sh: SKIPPED, this is no x86-64 machine"
    exit 0
fi
if ! command -v qemu-x86_64 >/dev/null; then
    root=
    [ "$(id -u)" = 0 ] || root=sudo
    $root apt-get update -qq
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-user >/dev/null
fi
python3 scripts/fetch.py photos
make build

program=${CARGO_TARGET_DIR:-target}/release/mfr-enroll
photo=target/demo/photos/obama.jpg
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

emulated() {
    ORT_DYLIB_PATH=/nowhere/libonnxruntime.so qemu-x86_64 -cpu Nehalem "$program" "$@"
}

emulated model models/*.onnx | tee "$scratch/model"
if grep -qE 'onnxruntime|avx' "$scratch/model"; then
    echo "test-scalar.sh: a network is not run by the scalar kernels" >&2
    exit 1
fi
emulated identify --json "$photo" | tee "$scratch/faces"
grep -q '"label":"without_mask"' "$scratch/faces"
emulated embed --output "$scratch/emulated.npz" "$photo"
# Integers are the same on every CPU; the last layer and the detector's box are rounded differently.
"$program" embed --output "$scratch/native.npz" "$photo"
python3 - "$scratch" <<'PYTHON'
import struct
import sys
import zipfile


def embedding(name):
    """The only row of the archive's array: 512 float32 behind the header of the .npy format."""
    data = zipfile.ZipFile(f"{sys.argv[1]}/{name}.npz").read("embeddings.npy")
    return struct.unpack("<512f", data[-2048:])


cosine = sum(a * b for a, b in zip(embedding("emulated"), embedding("native")))
print(f"cosine of the embeddings on Nehalem and here: {cosine:.5f}")
sys.exit(cosine < 0.99)
PYTHON
echo "test-scalar.sh: models, identify and embed passed on an emulated Nehalem without ONNX Runtime"
