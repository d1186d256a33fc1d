#!/bin/sh
# Names the people in a network camera's stream. Prints a message whenever somebody appears, is
# identified or leaves; with OUTPUT.mp4 it records as well, until Ctrl-C.
set -eu

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    echo "Usage: $0 rtsp://CAMERA/… GALLERY.npz [OUTPUT.mp4]" >&2
    exit 2
fi

# Run from the source tree, the plugin is where `make build` has left it.
built=$(cd "$(dirname "$0")/.." && pwd)/target/release
export GST_PLUGIN_PATH="${GST_PLUGIN_PATH:-$built}"

uri=$1 gallery=$2
if [ $# -eq 3 ]; then
    set -- queue ! mfroverlay ! videoconvert ! video/x-raw,format=I420 \
        ! x264enc speed-preset=veryfast tune=zerolatency ! queue ! mp4mux ! filesink location="$3"
else
    set -- fakesink sync=false
fi

# The leaky queue drops frames that come faster than they are worked on: the answer is never late.
exec gst-launch-1.0 -e -m \
    rtspsrc location="$uri" latency=200 ! application/x-rtp,media=video \
    ! decodebin ! videoconvert \
    ! queue leaky=downstream max-size-buffers=1 ! mfrdetect \
    ! queue max-size-buffers=1 ! mfrrecognize database="$gallery" ! "$@"
