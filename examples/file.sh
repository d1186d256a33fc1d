#!/bin/sh
# Names the people in a video file; writes a video with boxes and names.
set -eu

if [ $# -ne 3 ]; then
    echo "Usage: $0 INPUT GALLERY.npz OUTPUT.mp4" >&2
    exit 2
fi

# `make build` puts the plugin here, for runs from the source tree.
built=$(cd "$(dirname "$0")/.." && pwd)/target/release
export GST_PLUGIN_PATH="${GST_PLUGIN_PATH:-$built}"

gst-launch-1.0 -e \
    filesrc location="$1" ! decodebin ! videoconvert \
    ! queue ! mfrdetect \
    ! queue ! mfrrecognize database="$2" \
    ! queue ! mfroverlay \
    ! videoconvert ! video/x-raw,format=I420 ! x264enc speed-preset=veryfast \
    ! queue ! mp4mux ! filesink location="$3" &
recording=$!
# Ctrl-C reaches the recording by itself and ends it, not this script; what ends this script ends the recording.
trap : INT
trap 'kill -s INT "$recording"' TERM
while
    status=0
    wait "$recording" || status=$?
    kill -0 "$recording" 2>/dev/null
do :; done
# An error before the first frame leaves an empty file.
if [ -f "$3" ] && [ ! -s "$3" ]; then
    rm -f "$3"
fi
exit "$status"
