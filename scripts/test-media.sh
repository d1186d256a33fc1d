#!/usr/bin/env bash
# Plays the elements in playbin, playbin3 and in the clients that applications are made of: the scenarios of
# gst-validate, GES, a GstRTSPServer, OpenCV and more. See tests/media/run.py, to which arguments are passed on.
# Installs what it needs with apt-get, builds the plugin and makes the demo's gallery if they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."

# Beyond scripts/deps.sh: GES, whose library brings the plugin nle, and OpenCV, which Debian builds with GStreamer.
packages=(gir1.2-ges-1.0 python3-opencv)

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ] && command -v apt-get >/dev/null; then
    root=
    [ "$(id -u)" = 0 ] || root=sudo
    $root apt-get update -qq
    $root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends --no-remove "${missing[@]}" >/dev/null
fi

plugin_folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/release")
if [ ! -e "$plugin_folder/libgstmfr.so" ]; then
    make build
fi
if [ ! -e target/demo/gallery.npz ] || [ ! -e target/demo/clip.mp4 ]; then
    make demo
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# A plugin of this machine must not stand in for the one that is tested.
unset GST_PLUGIN_PATH_1_0 GST_REGISTRY_1_0
export GST_PLUGIN_PATH=$plugin_folder GST_REGISTRY=$scratch/registry
# A critical warning is a mistake of ours: it ends the process of that scenario.
export G_DEBUG=fatal-criticals PYTHONDONTWRITEBYTECODE=1
# The system's Python is the one that has PyGObject. No display is needed.
env -u DISPLAY -u WAYLAND_DISPLAY /usr/bin/python3 tests/media/run.py "$@"
