#!/usr/bin/env python3
"""Compares the elements with the original recipe in one run: frames a second and CPU time a frame.

    make build demo
    python3 benches/original_speed.py                    on target/demo/clip.mp4 and target/demo/gallery.npz
    python3 benches/original_speed.py CLIP GALLERY.npz --rounds 5
    python3 benches/original_speed.py --python python3.11  where python3 is not CPython 3.11

The first run makes two virtual environments in target/original/ (2.3 GB, from the Python package index), one with
TensorFlow and one with OpenCV; original.py says what runs in them. Needs PyGObject and CPython 3.11, the one version
for which there are wheels of all that is pinned.

All recipes take turns. An original looks at every 40th frame only, at other ones in each round, because it makes a
few frames a second; the elements look at all. Decoding and drawing are included, loading is not: the clock of a
pipeline starts when the first frame reaches mfrdetect. CPU time is that of all threads and hardly depends on what
else runs on the computer; frames a second do.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BENCHES = Path(__file__).resolve().parent
ROOT = BENCHES.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
ENVIRONMENTS = ROOT / "target/original"

# Of the frames of the clip an original looks at one in so many.
STEP = 40

PIPELINE = (
    "filesrc location={clip} ! decodebin ! queue ! mfrdetect name=detect {detect} ! queue"
    " ! mfrrecognize database={gallery} {recognize} ! queue ! mfroverlay ! fakesink sync=false name=sink"
)
FULL = {"detect": "inference-interval=1", "recognize": "reclassify-interval=1"}
ELEMENTS = {
    "elements, default": {"detect": "", "recognize": ""},
    "elements, every frame in full": FULL,
    "the same, min-face-size=20": FULL | {"detect": "inference-interval=1 min-face-size=20"},
}


class Original:
    """original.py in a process of its own, loaded once for all rounds."""

    def __init__(self, python, engine, clip, gallery):
        command = [python, "-W", "ignore", BENCHES / "original.py", "--engine", engine, clip, gallery]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.engine = self.answer().removeprefix("ready ").strip()

    def run(self, round_number, rounds):
        """Frames, seconds, CPU seconds."""
        print(round_number * STEP // rounds, STEP, file=self.process.stdin, flush=True)
        frames, seconds, _faces, cpu_seconds = self.answer().split()
        return int(frames), float(seconds), float(cpu_seconds)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("original_speed.py: original.py has ended; its message is above")
        return line

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Elements:
    """A pipeline that is made anew for each round."""

    def __init__(self, properties, clip, gallery):
        self.description = PIPELINE.format(clip=clip, gallery=gallery, **properties)

    def run(self, _round_number, _rounds):
        """Frames, seconds, CPU seconds."""
        pipeline = Gst.parse_launch(self.description)
        start, frames = [], [0]

        def first_frame(_pad, _info):
            start.extend((time.perf_counter(), time.process_time()))
            return Gst.PadProbeReturn.REMOVE

        def count(_pad, _info):
            frames[0] += 1
            return Gst.PadProbeReturn.OK

        pipeline.get_by_name("detect").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, first_frame)
        pipeline.get_by_name("sink").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, count)
        pipeline.set_state(Gst.State.PLAYING)
        message = pipeline.get_bus().timed_pop_filtered(
            Gst.CLOCK_TIME_NONE, Gst.MessageType.EOS | Gst.MessageType.ERROR
        )
        end = time.perf_counter(), time.process_time()
        pipeline.set_state(Gst.State.NULL)
        if message.type == Gst.MessageType.ERROR:
            sys.exit(f"original_speed.py: {message.parse_error()[0].message}")
        return frames[0], end[0] - start[0], end[1] - start[1]

    def end(self):
        pass


def environment(python, name, requirements):
    """The Python of a virtual environment, which is made if it is missing or its requirements have changed."""
    folder, wanted = ENVIRONMENTS / name, (BENCHES / requirements).read_text()
    complete = folder / "requirements.txt"
    if not complete.exists() or complete.read_text() != wanted:
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", "-r", BENCHES / requirements], check=True)
        complete.write_text(wanted)
    return folder / "bin/python"


def cpu_name():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", type=Path, default=ROOT / "target/demo/clip.mp4")
    parser.add_argument("gallery", nargs="?", type=Path, default=ROOT / "target/demo/gallery.npz")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="a CPython 3.11 that makes the environments")
    arguments = parser.parse_args()
    files = arguments.clip, arguments.gallery
    for file in files:
        if not file.is_file():
            parser.error(f"{file}: expected a file, found none; `make demo` makes the default ones")

    recipes = {}
    for engine, name, requirements in (
        ("tensorflow", "tensorflow", "original-tensorflow-requirements.txt"),
        ("tensorflow-direct", "tensorflow", "original-tensorflow-requirements.txt"),
        ("opencv", "opencv", "original-requirements.txt"),
    ):
        original = Original(environment(arguments.python, name, requirements), engine, *files)
        recipes[f"original, {original.engine}"] = original
    recipes |= {name: Elements(properties, *files) for name, properties in ELEMENTS.items()}

    measured = {name: [] for name in recipes}
    for round_number in range(arguments.rounds):
        for name, recipe in recipes.items():
            measured[name].append(recipe.run(round_number, arguments.rounds))
    for recipe in recipes.values():
        recipe.end()
    report(measured)


def figure(value):
    """Three significant digits, never an exponent."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def report(measured):
    """Prints a table of the medians over all rounds."""
    print(f"{cpu_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end\n")
    print("| | frames/s | × TensorFlow | CPU ms a frame | × less than TensorFlow | frames of a round |")
    print("| --- | --- | --- | --- | --- | --- |")
    base = None
    for name, rounds in measured.items():
        rate = statistics.median(frames / seconds for frames, seconds, _ in rounds)
        cpu = statistics.median(1000 * cpu_seconds / frames for frames, _, cpu_seconds in rounds)
        base = base or (rate, cpu)
        figures = map(figure, (rate, rate / base[0], cpu, base[1] / cpu))
        print(f"| {name} | {' | '.join(figures)} | {rounds[-1][0]} |")


if __name__ == "__main__":
    os.environ.setdefault("GST_PLUGIN_PATH", str(TARGET / "release"))
    import gi

    gi.require_version("Gst", "1.0")
    from gi.repository import Gst

    Gst.init(None)
    main()
