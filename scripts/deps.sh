#!/bin/sh
# Makes sure that the system has what building, testing and the demo need: GStreamer 1.22 or newer
# with its plugins, a C linker, Python for the scripts. On Debian and its relatives the missing
# packages are installed with apt-get, elsewhere they are listed. A second run only looks.
set -eu

# What each is for: the linker; GStreamer's headers; its programs and plugins (qtdemux, v4l2src and
# rtspsrc are in good, h264parse in bad, x264enc in ugly, the decoders in libav); Python for
# scripts/fetch.py, the examples and the test that reads a gallery with numpy; the RTSP server for
# the test that plays a network camera.
packages="
gcc libc6-dev pkg-config
libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
python3 python3-pip python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 python3-numpy
gir1.2-gst-rtsp-server-1.0
"

die() {
    echo "deps.sh: $*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# The names among the arguments that dpkg does not report as installed.
missing_packages() {
    for package; do
        # pkgconf stands in for pkg-config in newer releases and keeps the old name as a package.
        status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
        [ "$status" = "install ok installed" ] || echo "$package"
    done
}

# Where there is no dpkg: what the same packages would bring, looked for one by one.
missing_things() {
    for program in cc pkg-config python3 gst-inspect-1.0 gst-launch-1.0; do
        has "$program" || echo "the program $program"
    done
    for module in gstreamer-1.0 gstreamer-base-1.0 gstreamer-video-1.0 gstreamer-app-1.0; do
        pkg-config --exists "$module >= 1.22" 2>/dev/null || echo "$module >= 1.22 (headers)"
    done
    for element in videoconvert qtdemux mp4mux h264parse avdec_h264 x264enc; do
        gst-inspect-1.0 --exists "$element" 2>/dev/null || echo "the GStreamer element $element"
    done
    python3 -c 'import pip' 2>/dev/null || echo "the Python module pip"
}

install_packages() {
    if [ "$(id -u)" = 0 ]; then
        root=
    elif has sudo && [ -t 0 ]; then
        root=sudo
    elif has sudo && sudo -n true 2>/dev/null; then
        # Nobody is there to type a password.
        root="sudo -n"
    else
        die "these packages are missing, and neither root nor sudo is at hand:" "$@" "
Have them installed: apt-get install" "$@"
    fi
    echo "deps.sh: installing" "$@"
    # Through env, as sudo drops variables.
    set -- env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    $root apt-get update -qq </dev/null || die "apt-get update failed"
    $root "$@" </dev/null >/dev/null || die "apt-get could not install the packages"
}

has cargo || die "cargo is missing: install Rust from https://rustup.rs"

if has dpkg-query && has apt-get; then
    # shellcheck disable=SC2086 # a list of words
    missing=$(missing_packages $packages)
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086
        install_packages $missing
        # shellcheck disable=SC2086
        still=$(missing_packages $missing)
        [ -z "$still" ] || die "still missing after apt-get:" $still
    fi
    pkg-config --exists 'gstreamer-1.0 >= 1.22' ||
        die "GStreamer 1.22 or newer is needed, found $(pkg-config --modversion gstreamer-1.0)"
else
    missing=$(missing_things)
    [ -z "$missing" ] || die "this is not Debian, so please install what is missing:
$missing"
fi
