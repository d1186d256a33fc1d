#!/usr/bin/env python3
"""Keeps crops of unknown faces for some days, so that mfr-enroll can group them by person.

    examples/strangers.py rtsp://CAMERA/… --database gallery.npz --keep strangers --days 7
    mfr-enroll discover strangers --output people --database gallery.npz --report people.html

The elements store nothing about strangers; this application does, in a folder that only its owner may read, and deletes each
crop after the days that are stated: when it starts, and every hour while it runs. A face is kept once it has been unknown
for a second, up to three times in a visit, and the crops are deleted again if it turns out to be somebody whom the gallery
knows. In many places keeping faces of people who have not agreed is against the law. Needs what recognize.py needs, and
jpegenc of GStreamer's good plugins.
"""

import dataclasses
import math
import os
import re
import sys
import time
from pathlib import Path

from recognize import Gst, GLib, faces_of_buffer, parser, printable, run

from gi.repository import GstVideo

# Seconds for which a face has to be unknown before it is kept, and between two crops of it.
UNKNOWN_FOR = 1.0
# Crops of a face in one visit.
MOST_CROPS = 3
# Shorter side, in pixels, of the smallest face that is kept: mfr-enroll needs 24.
LEAST_SIDE = 40
# Side of a crop relative to the longer side of the face, as mfr-enroll discover writes them.
MARGIN = 3.0
# Seconds after which a face that is not seen any more has left, and those between deletions of old files.
LEFT_AFTER = 5.0
DELETE_EVERY = 3600
# Seconds that a conversion may take.
CONVERSION = 2

# The names of the files that this program writes, and therefore deletes.
NAME = re.compile(r"stranger-\d{8}T\d{6}-\d+-\d+\.jpg")


@dataclasses.dataclass
class Visit:
    """Of an unknown face; times in seconds of the stream."""
    since: float
    last: float
    kept: float = -math.inf
    crops: list = dataclasses.field(default_factory=list)


class Visits:
    """Decides which faces of a frame to keep."""

    def __init__(self):
        self.visits = {}

    def update(self, now, names):
        """Adds a frame: its time and the name of each face by the face's id, None for an unknown one. Returns
        the ids to keep now, and the crops of those who turned out to be known."""
        self.visits = {face: visit for face, visit in self.visits.items()
                       if 0 <= now - visit.last <= LEFT_AFTER}
        due, known = [], []
        for face, name in names.items():
            if name is not None:
                visit = self.visits.pop(face, None)
                known += visit.crops if visit else []
                continue
            visit = self.visits.setdefault(face, Visit(now, now))
            visit.last = now
            if (now - max(visit.since, visit.kept) >= UNKNOWN_FOR
                    and len(visit.crops) < MOST_CROPS):
                due.append(face)
        return due, known

    def add(self, now, face, path):
        self.visits[face].kept = now
        self.visits[face].crops.append(path)


def square(face, width, height):
    """The part of a frame to cut out, (left, top, width, height) in pixels."""
    side = MARGIN * max(face["w"] * width, face["h"] * height) / 2
    x, y = (face["x"] + face["w"] / 2) * width, (face["y"] + face["h"] / 2) * height
    left, top = max(0, int(x - side)), max(0, int(y - side))
    right, bottom = min(width, math.ceil(x + side)), min(height, math.ceil(y + side))
    return left, top, right - left, bottom - top


def jpeg(buffer, caps, part):
    """A part of a frame as the bytes of a JPEG file."""
    left, top, width, height = part
    rgb = Gst.Caps.from_string("video/x-raw,format=RGB")
    sample = Gst.Sample.new(buffer, caps, None, None)
    sample = GstVideo.video_convert_sample(sample, rgb, CONVERSION * Gst.SECOND)
    info = GstVideo.VideoInfo.new_from_caps(sample.get_caps())
    frame = sample.get_buffer()
    pixels = frame.extract_dup(0, frame.get_size())
    # Rows are padded to four bytes.
    row = width * 3
    rows = (pixels[at:at + row].ljust((row + 3) // 4 * 4, b"\0") for at in (
        info.offset[0] + (top + y) * info.stride[0] + left * 3 for y in range(height)))
    cropped = Gst.Buffer.new_wrapped(b"".join(rows))
    caps = Gst.Caps.from_string(
        f"video/x-raw,format=RGB,width={width},height={height},framerate=0/1")
    sample = Gst.Sample.new(cropped, caps, None, None)
    sample = GstVideo.video_convert_sample(
        sample, Gst.Caps.from_string("image/jpeg"), CONVERSION * Gst.SECOND)
    encoded = sample.get_buffer()
    return encoded.extract_dup(0, encoded.get_size())


class Folder:
    """Crops, each of which is deleted some days after it was written."""

    def __init__(self, path, days):
        self.path, self.seconds = Path(path), days * 86400
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.number = 0
        self.delete_old()

    def write(self, face, content):
        """Writes a file under another name until it is complete, and returns its path."""
        self.number += 1
        name = f"stranger-{time.strftime('%Y%m%dT%H%M%S')}-{face}-{self.number}.jpg"
        unfinished = self.path / f".{name}"
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        return unfinished.rename(self.path / name)

    def delete_old(self):
        """Deletes what is old enough, of the files that this program has written."""
        for path in self.path.iterdir():
            if NAME.fullmatch(path.name.removeprefix(".")):
                if time.time() - path.lstat().st_mtime > self.seconds:
                    path.unlink(missing_ok=True)
        return GLib.SOURCE_CONTINUE


class Keeper:
    """Keeps the unknown faces of a stream."""

    def __init__(self, folder):
        self.folder, self.visits = folder, Visits()

    def probe(self, pad, info):
        """Called for every buffer behind mfrrecognize, in a thread of the pipeline."""
        buffer, caps = info.get_buffer(), pad.get_current_caps()
        if buffer.pts == Gst.CLOCK_TIME_NONE or caps is None:
            return Gst.PadProbeReturn.OK
        size = caps.get_structure(0)
        width, height = size.get_int("width").value, size.get_int("height").value
        now = buffer.pts / Gst.SECOND
        # A face that has not been compared yet is neither known nor unknown.
        faces = {face["id"]: face for face in faces_of_buffer(buffer)
                 if face.get("identity") and min(face["w"] * width, face["h"] * height) >= LEAST_SIDE}
        names = {face_id: None if face["identity"]["label_id"] < 0 else face["identity"]["label"]
                 for face_id, face in faces.items()}
        due, known = self.visits.update(now, names)
        try:
            for path in known:
                path.unlink(missing_ok=True)
            for face_id in due:
                content = jpeg(buffer, caps, square(faces[face_id], width, height))
                self.visits.add(now, face_id, self.folder.write(face_id, content))
                print(f"{now:7.2f} s  kept a face that is not known", flush=True)
        except (OSError, GLib.Error) as error:
            print(f"strangers.py: cannot keep a face: {printable(str(error))}", file=sys.stderr)
        return Gst.PadProbeReturn.OK


def days(text):
    number = float(text)
    if not 0 < number <= 365:
        raise ValueError
    return number


def main():
    arguments = parser("Keep crops of unknown faces for some days.")
    arguments.add_argument("--keep", required=True, metavar="FOLDER",
                           help="where the crops are kept; it is made if it is not there")
    arguments.add_argument("--days", required=True, type=days, metavar="N",
                           help="how long each crop is kept, up to 365")
    arguments = arguments.parse_args()
    try:
        folder = Folder(arguments.keep, arguments.days)
    except OSError as error:
        print(f"strangers.py: {printable(str(error))}", file=sys.stderr)
        return 1
    keeper = Keeper(folder)
    GLib.timeout_add_seconds(DELETE_EVERY, folder.delete_old)

    def keep(recognize):
        recognize.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, keeper.probe)

    return run(arguments, lambda _faces: None, keep)


if __name__ == "__main__":
    sys.exit(main())
