#!/usr/bin/env python3
"""Streams that start, stop, seek, lose frames, change caps and swap galleries, for as long as asked.

    make demo
    MALLOC_ARENA_MAX=1 GST_PLUGIN_PATH=target/release /usr/bin/python3 benches/soak.py [--minutes 60]

A cycle is one pipeline with all three elements from NULL to NULL. Every kind of cycle takes its turn. Prints resident
memory, threads and open files every minute, and at the end their slopes for 1,000 cycles, from the second fifth of the
time on: what a process has to load once does not count. Exit status 1 where something did not end or posted an error
that was not expected.
"""

import argparse
import gc
import itertools
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp  # noqa: E402,F401

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEMO = ROOT / "target/demo"
ELEMENTS = "mfrdetect name=detect ! mfrrecognize name=recognize database={gallery} ! mfroverlay name=overlay"
WIDTH, HEIGHT = 320, 400


# The pipelines of this cycle, which all have to be stopped.
RUNNING = []


class Failure(Exception):
    pass


def launch(line):
    pipeline = Gst.parse_launch(line)
    RUNNING.append(pipeline)
    return pipeline


def wait(pipeline, seconds=60, wanted=Gst.MessageType.EOS):
    kinds = wanted | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(seconds * Gst.SECOND, kinds)
    if message is None:
        raise Failure("nothing came within a minute")
    if message.type == Gst.MessageType.ERROR:
        raise Failure(message.parse_error()[0].message)


def pixels(name, width=WIDTH, height=HEIGHT):
    line = (
        f"filesrc location={DEMO}/photos/{name} ! jpegdec ! videoconvert ! videoscale add-borders=false "
        f"! video/x-raw,format=GRAY8,width={width},height={height},pixel-aspect-ratio=1/1 ! appsink name=out"
    )
    pipeline = Gst.parse_launch(line)
    pipeline.set_state(Gst.State.PLAYING)
    buffer = pipeline.get_by_name("out").emit("pull-sample").get_buffer()
    data = buffer.extract_dup(0, buffer.get_size())
    pipeline.set_state(Gst.State.NULL)
    return data


def caps(width=WIDTH, height=HEIGHT):
    return Gst.Caps.from_string(f"video/x-raw,format=GRAY8,width={width},height={height},framerate=25/1")


def fed(gallery):
    """A pipeline that is fed by hand, and its source."""
    line = f"appsrc name=src format=time ! {ELEMENTS} ! fakesink sync=false"
    pipeline = launch(line.format(gallery=gallery))
    source = pipeline.get_by_name("src")
    source.set_property("caps", caps())
    pipeline.set_state(Gst.State.PLAYING)
    return pipeline, source


def push(source, data, n, flags=None):
    buffer = Gst.Buffer.new_wrapped(data) if data else Gst.Buffer.new()
    buffer.pts = n * 40 * Gst.MSECOND
    if flags:
        buffer.set_flags(flags)
    source.emit("push-buffer", buffer)


def play(gallery, _images):
    """The beginning of a file."""
    line = f"filesrc location={DEMO}/clip.mp4 ! decodebin ! videoconvert ! identity eos-after=30 ! {ELEMENTS} ! fakesink"
    pipeline = launch(line.format(gallery=gallery))
    pipeline.set_state(Gst.State.PLAYING)
    wait(pipeline)


def restart(gallery, _images):
    line = (
        f"filesrc location={DEMO}/photos/obama2.jpg ! jpegdec ! videoconvert ! videoscale ! video/x-raw,width=320,"
        f"height=240 ! imagefreeze num-buffers=10 ! {ELEMENTS} ! fakesink"
    )
    pipeline = launch(line.format(gallery=gallery))
    for state in (Gst.State.PAUSED, Gst.State.READY, Gst.State.PLAYING, Gst.State.NULL, Gst.State.PLAYING):
        pipeline.set_state(state)
        pipeline.get_state(10 * Gst.SECOND)
    wait(pipeline)


def seek(gallery, _images):
    line = f"filesrc location={DEMO}/clip.mp4 ! decodebin ! videoconvert ! {ELEMENTS} ! fakesink"
    pipeline = launch(line.format(gallery=gallery))
    pipeline.set_state(Gst.State.PAUSED)
    pipeline.get_state(10 * Gst.SECOND)
    flags = Gst.SeekFlags.FLUSH | Gst.SeekFlags.KEY_UNIT
    for _ in range(4):
        pipeline.seek_simple(Gst.Format.TIME, flags, random.randrange(6) * Gst.SECOND)
        pipeline.get_state(10 * Gst.SECOND)


def lose_frames(gallery, images):
    """Short, empty, dark, corrupted and missing frames, and timestamps that jump."""
    pipeline, source = fed(gallery)
    for n in range(40):
        data, flags = images[n // 20], None
        kind = random.randrange(8)
        if kind == 0:
            data = data[: len(data) // 2]
        elif kind == 1:
            data, flags = b"", Gst.BufferFlags.GAP
        elif kind == 2:
            data = bytes(len(data))
        elif kind == 3:
            flags = Gst.BufferFlags.CORRUPTED
        push(source, data, n + random.choice((0, 0, 0, 0, 100, -5) if n > 5 else (0,)), flags)
    source.emit("end-of-stream")
    wait(pipeline)


def change_caps(gallery, images):
    pipeline, source = fed(gallery)
    sizes = [(WIDTH, HEIGHT), (160, 200), (64, 48), (WIDTH, HEIGHT)]
    n = 0
    for width, height in sizes:
        source.set_property("caps", caps(width, height))
        for _ in range(5):
            push(source, images[0][: width * height], n)
            n += 1
    source.emit("end-of-stream")
    wait(pipeline)


def swap_gallery(gallery, images):
    """The gallery is replaced, damaged, removed and brought back while the pipeline plays."""
    pipeline, source = fed(gallery)
    recognize = pipeline.get_by_name("recognize")
    good = gallery.read_bytes()
    for n in range(30):
        if n == 5:
            replacement = gallery.with_suffix(".new")
            replacement.write_bytes(good)
            replacement.replace(gallery)
            recognize.emit("reload")
        elif n == 12:
            gallery.write_bytes(good[: len(good) // 2])
            recognize.emit("reload")
        elif n == 18:
            gallery.unlink()
            recognize.set_property("database", str(DEMO / "gallery.npz"))
        elif n == 24:
            gallery.write_bytes(good)
            recognize.set_property("database", str(gallery))
        push(source, images[0], n)
        time.sleep(0.01)
    source.emit("end-of-stream")
    wait(pipeline)


KINDS = (play, restart, seek, lose_frames, change_caps, swap_gallery)


def figures():
    """Resident memory in MB, threads, open files."""
    status = pathlib.Path("/proc/self/status").read_text()
    field = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if len(line.split()) > 1}
    return int(field["VmRSS"]) / 1024, int(field["Threads"]), len(os.listdir("/proc/self/fd"))


def slope(samples, index):
    """Per 1,000 cycles, by least squares."""
    xs, ys = [s[0] for s in samples], [s[1][index] for s in samples]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((a - x) ** 2 for a in xs)
    return 1000 * sum((a - x) * (b - y) for a, b in zip(xs, ys)) / spread if spread else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    names = [kind.__name__ for kind in KINDS]
    parser.add_argument("--kinds", nargs="+", choices=names, default=names, help="of cycles; default: all")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if kind.__name__ in options.kinds]
    Gst.init(None)
    if not Gst.ElementFactory.find("mfrdetect"):
        sys.exit("no element mfrdetect: set GST_PLUGIN_PATH, see the head of this file")
    random.seed(1)
    images = [pixels("obama2.jpg"), pixels("biden.jpg")]
    folder = pathlib.Path(tempfile.mkdtemp())
    gallery = folder / "gallery.npz"
    begin, samples, failures, next_print = time.time(), [], 0, 0.0
    for cycle, kind in enumerate(itertools.cycle(kinds)):
        if time.time() - begin > options.minutes * 60:
            break
        shutil.copy(DEMO / "gallery.npz", gallery)
        try:
            kind(gallery, images)
        except Failure as failure:
            failures += 1
            print(f"cycle {cycle}, {kind.__name__}: {failure}")
        for pipeline in RUNNING:
            pipeline.set_state(Gst.State.NULL)
            pipeline.get_bus().set_flushing(True)
        RUNNING.clear()
        del pipeline
        if cycle % (4 * len(kinds)) == 0:
            gc.collect()
            samples.append((cycle, figures()))
        if time.time() >= next_print:
            memory, threads, files = figures()
            print(f"{(time.time() - begin) / 60:5.1f} min {cycle:6} cycles {memory:7.1f} MB {threads:3} threads {files:3} files", flush=True)
            next_print = time.time() + options.minutes * 6
    shutil.rmtree(folder)
    late = samples[len(samples) // 5 :]
    print(f"{cycle} cycles in {(time.time() - begin) / 60:.1f} min, {failures} failures; for 1,000 cycles:")
    for index, name in enumerate(("MB", "threads", "files")):
        print(f"  {slope(late, index):+8.2f} {name}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
