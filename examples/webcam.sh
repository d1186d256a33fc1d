#!/bin/sh
# Names the people in front of a camera, in a window.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "Usage: $0 GALLERY.npz [DEVICE, /dev/video0 unless given]" >&2
    exit 2
fi

# `make build` puts the plugin here, for runs from the source tree.
built=$(cd "$(dirname "$0")/.." && pwd)/target/release
export GST_PLUGIN_PATH="${GST_PLUGIN_PATH:-$built}"

# The leaky queue drops frames that arrive faster than they are processed, which bounds the latency.
exec gst-launch-1.0 \
    v4l2src device="${2:-/dev/video0}" ! decodebin ! videoconvert \
    ! queue leaky=downstream max-size-buffers=1 ! mfrdetect \
    ! queue max-size-buffers=1 ! mfrrecognize database="$1" \
    ! queue max-size-buffers=1 ! mfroverlay \
    ! videoconvert ! autovideosink sync=false
