#!/usr/bin/env python3
"""Opens a door to people by name.

    examples/door.py rtsp://CAMERA/… --database gallery.npz --allow "Ana Lima" --allow "Ben Okafor" \\
        --command "relay on" --close-command "relay off"

It opens to a person who has been identified under one name for a second, once in each visit: neither
for shorter observations, nor for a name that changes, nor for unknown people. It does not distinguish
a face from a photo of one, so a door that protects something needs a key as well. Needs what
recognize.py needs, and NumPy (python3-numpy).
"""

import dataclasses
import difflib
import shlex
import subprocess
import sys
import zipfile

from recognize import GLib, faces_of_message, parser, printable, run, seconds_of_message

try:
    import numpy
except ModuleNotFoundError:
    sys.exit(f"{sys.executable} has no NumPy. On Debian: apt install python3-numpy, then run this file with "
             "/usr/bin/python3")

# Seconds for which a face may be lost before its observation ends.
GAP = 0.5
# Seconds of absence after which a visit has ended.
VISIT_ENDS = 5.0
# Seconds that a command may take.
COMMAND_TIMEOUT = 10
# Names of a gallery that a message lists.
MOST_NAMES = 20


@dataclasses.dataclass
class Observation:
    """Of a person, without a break; times in seconds of the stream."""
    face_id: int
    first: float
    last: float


class AccessControl:
    """Decides from the faces of each frame for whom to open."""

    def __init__(self, allowed, seen_for):
        self.allowed, self.seen_for = frozenset(allowed), seen_for
        self.observations = {}
        self.visits = {}  # when each visitor was last seen

    def update(self, time, faces):
        """Adds a frame: its time in seconds and the name of each face by the face's id, None for a
        face that may not pass whatever its name is. Returns the names for which to open now."""
        self.observations = {
            name: observation for name, observation in self.observations.items()
            # The same face under another name: one of the two names is wrong.
            if 0 <= time - observation.last <= GAP
            and faces.get(observation.face_id, name) == name}
        self.visits = {name: last for name, last in self.visits.items()
                       if 0 <= time - last <= VISIT_ENDS}
        admitted = []
        for face_id, name in faces.items():
            if name not in self.allowed:
                continue
            observation = self.observations.setdefault(name, Observation(face_id, time, time))
            observation.face_id, observation.last = face_id, time
            if name not in self.visits and time - observation.first >= self.seen_for:
                admitted.append(name)
            if name in self.visits or name in admitted:
                self.visits[name] = time
        return admitted


class Door:
    """Stays open for some seconds of wall-clock time, also when no more frames come."""

    def __init__(self, open_command, close_command, seconds):
        self.commands = {"open": open_command, "close": close_command}
        self.seconds = seconds
        self.timer = None

    def open(self, time, name):
        if self.timer:
            GLib.source_remove(self.timer)
        elif not self.run("open"):
            # It may have opened the door all the same.
            self.run("close")
            return
        self.timer = GLib.timeout_add(round(self.seconds * 1000), self.close)
        print(f"{time:7.2f} s  open to {printable(name)}", flush=True)

    def close(self):
        if self.timer:
            self.timer = None
            # Before the output, since the command must run even if standard output is closed.
            if self.run("close"):
                print("           close", flush=True)
        return GLib.SOURCE_REMOVE

    def run(self, what):
        """Runs a command, if there is one; returns whether nothing went wrong."""
        command = self.commands[what]
        if not command:
            return True
        try:
            subprocess.run(command, check=True, timeout=COMMAND_TIMEOUT)
            return True
        except (OSError, subprocess.SubprocessError) as error:
            print(f"door.py: cannot {what} the door: {printable(str(error))}", file=sys.stderr)
            return False


def people(database):
    """The names in a gallery."""
    with numpy.load(database, allow_pickle=False) as gallery:
        return {str(name) for name in gallery["names"]}


def suggestion(unknown, names):
    """The names that are meant instead, or those that there are."""
    def is_near(wanted, name):
        name = name.casefold()
        return difflib.get_close_matches(wanted.casefold(), [name, *name.split()])

    near = [name for name in sorted(names) if any(is_near(wanted, name) for wanted in unknown)]
    if near:
        return "; did you mean " + " or ".join(near[:MOST_NAMES]) + "?"
    more = len(names) - MOST_NAMES
    return ("; it holds " + ", ".join(sorted(names)[:MOST_NAMES])
            + (f" and {more} more, which `mfr-enroll list` prints" if more > 0 else ""))


def positive(text):
    number = float(text)
    if not 0 < number < 1e6:
        raise ValueError
    return number


def main():
    options = parser("Open a door to people by name.")
    options.add_argument("--allow", required=True, action="append", metavar="NAME",
                         help="who may pass, as `mfr-enroll list` writes it; may be repeated")
    options.add_argument("--mask", choices=("on", "off"),
                         help="open only to people with a mask on, or only without")
    options.add_argument("--seen-for", type=positive, default=1.0, metavar="SECONDS",
                         help="how long a name has to be seen [1]")
    options.add_argument("--open-for", type=positive, default=5.0, metavar="SECONDS",
                         help="how long the door stays open [5]")
    options.add_argument("--command", type=shlex.split, metavar="COMMAND",
                         help="opens the door")
    options.add_argument("--close-command", type=shlex.split, metavar="COMMAND",
                         help="closes the door; also run at the end while it is open")
    arguments = options.parse_args()
    try:
        names = people(arguments.database)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        print(printable(f"door.py: {arguments.database} is no gallery that mfr-enroll has made: {error}"),
              file=sys.stderr)
        return 1
    unknown = set(arguments.allow) - names
    if unknown:
        options.error(printable(f"--allow expects people of {arguments.database}, found: "
                                + ", ".join(sorted(unknown)) + suggestion(unknown, names)))
    mask = {"on": "with_mask", "off": "without_mask"}.get(arguments.mask)
    access = AccessControl(arguments.allow, arguments.seen_for)
    door = Door(arguments.command, arguments.close_command, arguments.open_for)

    def on_faces(structure):
        time = seconds_of_message(structure)
        faces = {}
        for face in faces_of_message(structure):
            known = face.get_int("label_id").value >= 0
            may_pass = known and mask in (None, face.get_string("mask"))
            faces[face.get_int("id").value] = face.get_string("label") if may_pass else None
        for name in access.update(time, faces):
            door.open(time, name)

    # Events report changes only; here the time without a change counts.
    status = run(arguments, on_faces,
                 lambda recognize: recognize.set_property("post-messages", "all"))
    door.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
