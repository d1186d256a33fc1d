#!/bin/sh
# Makes sure that the system has what building, testing and the demo need: Rust, GStreamer 1.22 or
# newer with its plugins, a C linker, Python for the scripts. On Debian and its relatives the missing
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

# The command in front of one that needs root; nothing if this is root.
as_root() {
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
}

install_packages() {
    as_root "$@"
    echo "deps.sh: installing" "$@"
    # Through env, as sudo drops variables. Nothing of the user's is removed for it.
    set -- env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove "$@"
    $root apt-get update -qq </dev/null || die "apt-get update failed"
    $root "$@" </dev/null >/dev/null || die "apt-get could not install the packages"
}

# Whether version $1 is $2 or newer.
is_at_least() {
    [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# Debian's own packages of a Rust that is new enough: those for browsers in the security archive of Debian 12, or a
# backport where the user has that source.
rust_packages() {
    for name in "" -web; do
        apt-cache madison "rustc$name" 2>/dev/null | tr -d ' ' | while IFS='|' read -r package version source; do
            ! is_at_least "$version" "$needed" || echo "$package=$version cargo$name=$version"
        done
    done | head -n 1
}

# Before anything else, since without it nothing else is of use.
check_rust() {
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
    found=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p') || true
    if has cargo && [ -n "$found" ] && is_at_least "$found" "$needed"; then
        return
    fi
    if [ -z "$found" ]; then
        says="Rust $needed or newer is needed, and there is none"
    elif ! is_at_least "$found" "$needed"; then
        says="Rust $needed or newer is needed, and $(command -v rustc) is $found"
    else
        says="Rust's cargo is needed, and there is none beside $(command -v rustc)"
    fi
    [ ! -x "$HOME/.cargo/bin/cargo" ] || [ "$(command -v cargo)" = "$HOME/.cargo/bin/cargo" ] ||
        die "$says. There is one in $HOME/.cargo/bin, which is not the first in PATH: run
    . $HOME/.cargo/env"
    packages_of_rust=
    if has apt-cache; then
        packages_of_rust=$(rust_packages)
    fi
    [ -n "$packages_of_rust" ] || die "$says. Install it from https://rustup.rs;
the package sources of this system have none that is new enough (if they have ever been read: apt-get update)"
    echo "deps.sh: $says"
    # shellcheck disable=SC2086 # a list of words
    install_packages $packages_of_rust
}

check_rust

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
