#!/usr/bin/env python3
"""Plays the elements in the hosts and clients that applications are made of: scripts/test-media.sh runs this.

    GST_PLUGIN_PATH=target/release /usr/bin/python3 tests/media/run.py [--only WORD ...]

Scenarios (scenarios.py) are compared with neutral elements in the same place; clients (clients.py) check what comes
out. Each is played in a process of its own, so that a critical warning, a crash or a deadlock fails that one alone.
Prints a line for each, and at the end how many there were. Exit status 1 if one failed.
"""

import argparse
import concurrent.futures
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

import clients  # noqa: E402
import scenarios  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "target/demo"
# The longest of them takes a tenth of that on two cores.
TIMEOUT = 180
MARK = "result: "


def make_clip(path):
    """The beginning of the demo's clip, with a key frame each second and with sound."""
    frames = scenarios.SECONDS * scenarios.RATE
    pipeline = Gst.parse_launch(
        f'filesrc location="{DEMO}/clip.mp4" ! decodebin ! videoconvert ! videoscale '
        f"! video/x-raw,format=I420,width=640,height=360 ! identity name=limit "
        f"! x264enc speed-preset=fast key-int-max={scenarios.RATE} ! h264parse ! queue ! mp4mux name=mux "
        f'! filesink location="{path}" audiotestsrc num-buffers={frames} samplesperbuffer={44100 // scenarios.RATE} '
        "! audio/x-raw,rate=44100,channels=1 ! audioconvert ! avenc_aac ! aacparse ! queue ! mux."
    )
    passed = itertools.count()

    def limit(_pad, _info):
        # The eos-after of identity lets some frames of a decoder with threads through.
        return Gst.PadProbeReturn.OK if next(passed) < frames else Gst.PadProbeReturn.DROP

    pipeline.get_by_name("limit").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, limit)
    pipeline.set_state(Gst.State.PLAYING)
    kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(120 * Gst.SECOND, kinds)
    pipeline.set_state(Gst.State.NULL)
    if message is None or message.type == Gst.MessageType.ERROR:
        sys.exit(f"the clip could not be made: {message and message.parse_error()}")


def in_process(words, folder):
    """The result of what a process of its own has played, or a text that says how that process ended."""
    command = [sys.executable, __file__, "--in", str(folder), "--one", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, errors="replace")
    except subprocess.TimeoutExpired:
        return f"not over within {TIMEOUT} s"
    for line in done.stdout.splitlines():
        if line.startswith(MARK) and done.returncode == 0:
            return json.loads(line.removeprefix(MARK))
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    # GLib's own words say more than the signal that follows.
    telling = [line for line in lines if re.search(r"CRITICAL|ERROR|panicked|Error:|Failure", line)] or lines
    return f"exit status {done.returncode}: {' / '.join(telling[-2:])}"


def play_one(words, folder):
    """In the process of its own: prints the result."""
    clip, gallery = folder / "clip.mp4", DEMO / "gallery.npz"
    if words[0] == "client":
        result = clients.play(words[1], clip, gallery)
    else:
        result = scenarios.record(*words, clip, gallery)
    print(MARK + json.dumps(result), flush=True)


def scenario(kind, name, folder):
    results = {which: in_process([kind, name, which], folder) for which in scenarios.filters("")}
    outcome, text = scenarios.compare(**results)
    if name == "change-state-intensive" and outcome == "ok":
        text = ", ".join(f"{which} {r['seconds']:.1f} s" for which, r in results.items() if isinstance(r, dict))
    return outcome, text


def client(name, folder):
    result = in_process(["client", name], folder)
    if isinstance(result, str):
        return "FAILED", result
    return result["outcome"], result["text"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="those whose names contain one of these words")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--in", dest="folder", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    Gst.init(None)
    if not Gst.ElementFactory.find("mfrdetect"):
        sys.exit("no element mfrdetect: set GST_PLUGIN_PATH, see the head of this file")
    if options.one:
        play_one(options.one, options.folder)
        return
    tasks = [(f"{kind} {name}", scenario, (kind, name)) for kind, name in scenarios.names()]
    tasks += [(f"client {name}", client, (name,)) for name in clients.CLIENTS]
    if options.only:
        tasks = [task for task in tasks if any(word in task[0] for word in options.only)]
    counts = {"ok": 0, "FAILED": 0, "left out": 0}
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        make_clip(pathlib.Path(folder) / "clip.mp4")
        running = [(name, pool.submit(task, *arguments, folder)) for name, task, arguments in tasks]
        for name, future in running:
            outcome, text = future.result()
            counts[outcome] += 1
            print(f"{name}: {outcome}{', ' + text if text else ''}", flush=True)
    print(", ".join(f"{number} {outcome}" for outcome, number in counts.items()))
    sys.exit(1 if counts["FAILED"] else 0)


if __name__ == "__main__":
    main()
