#!/usr/bin/env python3
"""An application with the elements in a pipeline of its own, in Python.

    examples/recognize.py video.mp4 --database gallery.npz

Prints who appears and leaves (from the messages of mfrrecognize on the bus) and at the end who was
seen in how many frames (from the metadata of every buffer). Needs PyGObject; on Debian: apt install
python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0.
"""

import argparse
import collections
import json
import math
import os
import re
import signal
import sys
import warnings
from pathlib import Path

# `make build` puts the plugin here, for runs from the source tree.
BUILT = Path(__file__).resolve().parent.parent / "target" / "release"
if "GST_PLUGIN_PATH" not in os.environ and (BUILT / "libgstmfr.so").exists():
    os.environ["GST_PLUGIN_PATH"] = str(BUILT)

try:
    import gi  # noqa: E402
except ModuleNotFoundError:
    sys.exit(f"{sys.executable} has no PyGObject. On Debian: apt install python3-gi gir1.2-gstreamer-1.0 "
             "gir1.2-gst-plugins-base-1.0, then run this file with /usr/bin/python3")

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, Gst, GstVideo  # noqa: E402


# Controls of terminals (C0, C1) and of the direction in which text is shown.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# User and password in a URI. A password that is not percent-encoded may hold any character.
USER_INFO = re.compile(r"(?<=://)(\S*:\S*@|[^\s/?#]*@)")
PARAMETERS = re.compile(
    r"([\w-]*(?:pass|pwd|psw|token|secret|auth|key|sig)[\w-]*=)[^&\s]*", re.IGNORECASE)


def printable(text):
    """A text from outside, as a name in a gallery or an error of GStreamer, that neither controls the
    terminal nor gives away the password of a camera."""
    text = PARAMETERS.sub(r"\1***", USER_INFO.sub("", text))
    return CONTROLS.sub(lambda control: control[0].encode("unicode_escape").decode(), text)


def parser(description):
    """The arguments that every application has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("input", help="a file, a URI (rtsp://…) or a camera (/dev/video0)")
    parser.add_argument("--database", required=True, metavar="FILE.npz",
                        help="the gallery that mfr-enroll has made")
    parser.add_argument("--min-face-size", type=int, default=40, metavar="N",
                        help="shorter side of the smallest face looked for, in pixels [40]")
    return parser


def limit_latency(_bin, source):
    """Sets the jitter buffer of a network camera to 0.2 s; the 2 s of rtspsrc are meant for films."""
    if source.find_property("latency"):
        source.set_property("latency", 200)


def build(arguments):
    """Makes the pipeline. Paths that are set as properties need no quoting."""
    if arguments.input.startswith("/dev/video"):
        uri = f"v4l2://{arguments.input}"
    elif "://" in arguments.input:
        uri = arguments.input
    else:
        uri = Path(arguments.input).resolve().as_uri()
    # A leaky queue drops frames of a camera that arrive faster than they are processed, which bounds
    # the latency.
    leaky = "" if uri.startswith("file:") else "leaky=downstream max-size-buffers=1"
    pipeline = Gst.parse_launch(
        f"uridecodebin name=source ! videoconvert ! queue {leaky} ! mfrdetect name=detect "
        "! queue max-size-buffers=1 ! mfrrecognize name=recognize ! fakesink sync=false")
    source = pipeline.get_by_name("source")
    source.set_property("uri", uri)
    source.connect("source-setup", limit_latency)
    pipeline.get_by_name("detect").set_property("min-face-size", arguments.min_face_size)
    pipeline.get_by_name("recognize").set_property("database", arguments.database)
    return pipeline


def faces_of_message(structure):
    """The faces of an element message, each a Gst.Structure."""
    # get_array and get_nth are deprecated, but need no overrides for GstValueArray, which Debian has
    # in a package of its own. Faces are copied because the array owns them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found, faces = structure.get_array("faces")
        return [faces.get_nth(i).copy() for i in range(faces.n_values)] if found else []


def seconds_of_message(structure):
    """Seconds of the stream; nan where timestamps are missing."""
    found, time = structure.get_uint64("stream-time")
    return time / Gst.SECOND if found else math.nan


def print_events(structure):
    """Prints a message of mfrrecognize, a line for each face."""
    when = f"{seconds_of_message(structure):7.2f} s"
    for face in faces_of_message(structure):
        event, label = face.get_string("event"), face.get_string("label")
        known = face.get_int("label_id").value >= 0
        line = f"{when}  {label if known else 'somebody unknown'} {event}"
        if event == "changed":
            before, mask = face.get_string("previous_label"), face.get_string("mask")
            # Without a previous name, the mask has changed.
            line += f": was {before}" if before else f": mask {'on' if mask == 'with_mask' else 'off'}"
        if event in ("identified", "changed"):
            line += f" (similarity {face.get_double('similarity').value:.2f})"
        print(printable(line), flush=True)


def faces_of_buffer(buffer):
    """The faces of a buffer as a list of dicts; coordinates are 0…1 of the frame.

    MfrFacesMeta holds everything as JSON. Converters and scalers keep it.
    """
    meta = buffer.get_custom_meta("MfrFacesMeta")
    if meta is None:
        return []
    return json.loads(meta.get_structure().get_string("json"))["faces"]


def identity_of_roi(buffer, face_id):
    """The same from the region of interest: (x, y, w, h) in pixels and the name, or None."""
    roi = GstVideo.buffer_get_video_region_of_interest_meta_id(buffer, face_id)
    if roi is None:
        return None
    identity = roi.get_param("identity")
    label = identity.get_string("label") if identity else None
    return (roi.x, roi.y, roi.w, roi.h), label


class Seen:
    """Counts the frames of each person."""

    def __init__(self):
        self.all_frames = 0
        self.frames = collections.Counter()
        self.similarity = collections.Counter()

    def probe(self, _pad, info):
        """Called for every buffer behind mfrrecognize, in a thread of the pipeline."""
        buffer = info.get_buffer()
        self.all_frames += 1
        for face in faces_of_buffer(buffer):
            identity = face.get("identity")
            if identity is None:
                continue
            roi = identity_of_roi(buffer, face["id"])
            assert roi is None or roi[1] == identity["label"], (roi, identity)
            self.frames[identity["label"]] += 1
            self.similarity[identity["label"]] += identity["similarity"]
        return Gst.PadProbeReturn.OK

    def print(self):
        # After an error before the first frame there is nothing to tell.
        if not self.all_frames:
            return
        names = {name: printable(name) for name in sorted(self.frames)}
        width = max([len("name"), *map(len, names.values())])
        print(f"\n{'name':{width}}  frames  similarity")
        for name, shown in names.items():
            frames = self.frames[name]
            print(f"{shown:{width}}  {frames:6}  {self.similarity[name] / frames:10.2f}")


def play(pipeline, on_faces):
    """Runs until the end, an error or Ctrl-C; on_faces gets every message of mfrrecognize. Returns
    the error, if there was one."""
    loop = GLib.MainLoop()
    failure = []

    def on_message(_bus, message):
        if message.type == Gst.MessageType.EOS:
            loop.quit()
        elif message.type == Gst.MessageType.ERROR:
            error, debug = message.parse_error()
            # The last line of the debug text is the element's; the others are places in GStreamer's code.
            detail = (debug or "").splitlines()[1:][-1:]
            failure.append(" ".join([f"{message.src.get_name()}: {error.message}", *detail]))
            loop.quit()
        elif message.type == Gst.MessageType.ELEMENT:
            structure = message.get_structure()
            if structure.get_name() == "mfrrecognize":
                on_faces(structure)

    def on_signal():
        pipeline.send_event(Gst.Event.new_eos())
        # A camera that has stalled does not end its stream.
        GLib.timeout_add_seconds(2, loop.quit)
        return GLib.SOURCE_CONTINUE

    bus = pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message", on_message)
    for number in signal.SIGINT, signal.SIGTERM:
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, on_signal)
    pipeline.set_state(Gst.State.PLAYING)
    loop.run()
    pipeline.set_state(Gst.State.NULL)
    return failure[0] if failure else None


def run(arguments, on_faces, prepare):
    """Builds the pipeline, lets `prepare` change it and plays it. Returns the exit status."""
    name = Path(sys.argv[0]).name
    Gst.init(None)
    try:
        pipeline = build(arguments)
    except GLib.Error as error:
        print(f"{name}: {printable(error.message)}\nRun `make build`, or set GST_PLUGIN_PATH to the "
              "folder of libgstmfr.so.", file=sys.stderr)
        return 1
    prepare(pipeline.get_by_name("recognize"))
    failure = play(pipeline, on_faces)
    if failure:
        print(f"{name}: {printable(failure)}", file=sys.stderr)
        return 1
    return 0


def main():
    arguments = parser("Print who appears and leaves in a video.").parse_args()
    seen = Seen()

    def count_frames(recognize):
        pad = recognize.get_static_pad("src")
        pad.add_probe(Gst.PadProbeType.BUFFER, seen.probe)

    status = run(arguments, print_events, count_frames)
    seen.print()
    return status


if __name__ == "__main__":
    sys.exit(main())
