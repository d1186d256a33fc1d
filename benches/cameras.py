#!/usr/bin/env python3
"""Many cameras in one mfr-watch: what each costs, and how soon a person is named.

    make build && cargo build --release --example mfr-watch
    /usr/bin/python3 benches/cameras.py [--cameras 16] [--fps 10] [--seconds 120]

A server on the loopback interface sends 1280x720 H.264 streams by RTSP that show a person for 4 s of every 8 s. Of the
cameras one hangs, one sends garbage and one is taken away and brought back every 20 s; all others are to go on as if
these were not there. Prints, of the cameras that work: frames sent and analysed, CPU time of each stage in percent of
one core, and the time from the first frame that shows the person to the line that names the person, with memory.
Needs gir1.2-gst-rtsp-server-1.0, x264enc (gstreamer1.0-plugins-ugly), and the demo's photos and gallery (make demo).
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
PHOTO = ROOT / "target/demo/photos/obama2.jpg"
GALLERY = ROOT / "target/demo/gallery.npz"
WATCH = ROOT / "target/release/examples/mfr-watch"
# Seconds of the clip without and with the person.
AWAY, THERE = 4, 4


def clip(fps):
    """The access units of the clip, with the index of the first that shows the person, and their caps."""
    away, there = AWAY * fps, THERE * fps
    size = "width=1280,height=720,pixel-aspect-ratio=1/1"
    line = (
        f"concat name=c ! videoconvert ! x264enc key-int-max={fps} bframes=0 bitrate=1500 speed-preset=veryfast "
        "! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=out sync=false "
        f"videotestsrc pattern=smpte75 num-buffers={away} ! video/x-raw,format=I420,{size},framerate={fps}/1 ! c. "
        f"filesrc location={PHOTO} ! jpegdec ! videoconvert ! videoscale ! video/x-raw,format=I420,{size} "
        f"! imagefreeze num-buffers={there} ! video/x-raw,framerate={fps}/1 ! c."
    )
    pipeline = Gst.parse_launch(line)
    out = pipeline.get_by_name("out")
    pipeline.set_state(Gst.State.PLAYING)
    units, caps = [], None
    while sample := out.emit("pull-sample"):
        caps = sample.get_caps()
        buffer = sample.get_buffer()
        units.append(buffer.extract_dup(0, buffer.get_size()))
    pipeline.set_state(Gst.State.NULL)
    if len(units) != away + there:
        sys.exit(f"the clip has {len(units)} frames, expected {away + there}")
    return units, away, caps


def serve(port, names, fps):
    """Serves a stream for each name; prints `NAME TIME` whenever one shows the person anew. Does not return."""
    units, first, caps = clip(fps)
    server = GstRtspServer.RTSPServer()
    server.set_service(str(port))

    def feed(name, source):
        start, n = time.time(), 0
        while True:
            buffer = Gst.Buffer.new_wrapped(units[n % len(units)])
            buffer.pts = buffer.dts = n * Gst.SECOND // fps
            if n % len(units) == first:
                print(name, time.time(), flush=True)
            if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                return
            n += 1
            time.sleep(max(0.0, start + n / fps - time.time()))

    def configure(_factory, media, name):
        source = media.get_element().get_by_name("src")
        source.set_property("caps", caps)
        threading.Thread(target=feed, args=(name, source), daemon=True).start()

    for name in names:
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(
            "( appsrc name=src is-live=true format=time ! h264parse ! rtph264pay name=pay0 config-interval=1 )"
        )
        factory.set_shared(True)
        factory.connect("media-configure", configure, name)
        server.get_mount_points().add_factory(f"/{name}", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


class Server:
    """A server in a process of its own, with the times at which its streams show the person."""

    def __init__(self, port, names, fps):
        command = [sys.executable, __file__, "--serve", str(port), "--fps", str(fps), *names]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.shown = {name: [] for name in names}
        if self.process.stdout.readline().strip() != "ready":
            sys.exit("the server did not start")
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            name, shown = line.split()
            self.shown[name].append(float(shown))

    def stop(self):
        self.process.kill()
        self.process.wait()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answer(behave):
    """A TCP server that treats every connection like this; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=behave, args=(connection,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def hang(connection):
    while connection.recv(4096):
        pass


def send_garbage(connection):
    try:
        while True:
            connection.sendall(os.urandom(4096))
    except OSError:
        pass


def stage(thread):
    """What a thread of mfr-watch does, by the name that GStreamer gives it: that of the queue that starts it."""
    if thread.startswith("entrance"):
        return "detection"
    if thread.startswith("queue"):
        return "recognition"
    # The jitter buffer pushes through depayloader, parser and decoder.
    if thread.startswith(("rtpjitterbuffer", "multiqueue", "avdec", "av:h264")):
        return "decoding"
    if thread.startswith("mfr-"):
        return "helpers"
    return "network and rest"


def cpu_times(process):
    """Seconds of CPU time by stage, and all of the process."""
    ticks = os.sysconf("SC_CLK_TCK")
    times = {}
    for task in pathlib.Path(f"/proc/{process}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        times[task.name] = (stage(name), (int(fields[11]) + int(fields[12])) / ticks)
    return times


def resident(process):
    for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=16, help="of which three misbehave")
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    Gst.init(None)
    if options.serve:
        serve(options.serve, options.names, options.fps)
    for path in (PHOTO, GALLERY, WATCH):
        if not path.exists():
            sys.exit(f"{path} is missing: see the head of this file")
    good = [f"cam{n:02}" for n in range(max(1, options.cameras - 3))]
    port, other_port = free_port(), free_port()
    server = Server(port, good, options.fps)
    restarting = [Server(other_port, ["restarting"], options.fps)]
    uris = [f"rtsp://127.0.0.1:{port}/{name}" for name in good]
    if options.cameras > 3:
        uris += [
            f"rtsp://127.0.0.1:{answer(hang)}/hanging",
            f"rtsp://127.0.0.1:{answer(send_garbage)}/garbage",
            f"rtsp://127.0.0.1:{other_port}/restarting",
        ]
    watch = subprocess.Popen(
        [WATCH, "--database", GALLERY, "--min-face-size", "60", "--frames", *uris],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    frames, complaints = [], []
    threading.Thread(target=lambda: frames.extend(map(json.loads, watch.stdout)), daemon=True).start()
    threading.Thread(target=lambda: complaints.extend(watch.stderr), daemon=True).start()
    time.sleep(10)
    before, begin = cpu_times(watch.pid), time.time()
    last_restart = begin
    while time.time() - begin < options.seconds:
        time.sleep(1)
        if time.time() - last_restart > 20:
            restarting[0].stop()
            time.sleep(3)
            restarting[0] = Server(other_port, ["restarting"], options.fps)
            last_restart = time.time()
    after, took = cpu_times(watch.pid), time.time() - begin
    memory = resident(watch.pid)
    watch.send_signal(signal.SIGINT)
    try:
        watch.wait(20)
    except subprocess.TimeoutExpired:
        watch.kill()
        print("mfr-watch did not stop within 20 s")
    server.stop()
    restarting[0].stop()

    stages = {}
    for task, (name, seconds) in after.items():
        stages[name] = stages.get(name, 0) + seconds - before.get(task, (name, 0))[1]
    print(f"{len(uris)} cameras of 1280x720 at {options.fps} frames/s for {took:.0f} s, {len(good)} of them well-behaved")
    for name, seconds in sorted(stages.items()):
        print(f"  {name:18} {100 * seconds / took / len(good):6.1f} % of a core for each camera")
    print(f"  {'all':18} {100 * sum(stages.values()) / took / len(good):6.1f} %")
    print(f"  memory {memory:.0f} MB")
    analysed = [f for f in frames if begin <= time_of(f) <= begin + took and f["source"].rpartition("/")[2] in good]
    sent = len(good) * options.fps * took
    print(f"  frames analysed: {len(analysed)} of {sent:.0f} sent, {max(0, sent - len(analysed)) / sent:.1%} dropped")
    delays, missed = [], 0
    for name in good:
        named = [
            time_of(frame)
            for frame in analysed
            if frame["source"].endswith(f"/{name}")
            and any(face.get("identity", {}).get("label_id", -1) >= 0 for face in frame["objects"])
        ]
        for shown in server.shown[name]:
            if not begin <= shown <= begin + took - THERE:
                continue
            later = [at - shown for at in named if 0 <= at - shown < THERE]
            if later:
                delays.append(min(later))
            else:
                missed += 1
    if delays:
        print(
            f"  from the first frame with the person to the name: median {statistics.median(delays):.2f} s, "
            f"p95 {percentile(delays, 0.95):.2f} s, {len(delays)} of {len(delays) + missed} passages"
        )
    else:
        print("  nobody was named")
    spoiled = [line for line in complaints if any(f"/{name}" in line for name in good)]
    print(f"  complaints about well-behaved cameras: {len(spoiled)}; about others: {len(complaints) - len(spoiled)}")
    for line in spoiled[:5]:
        print("   ", line.strip())


def time_of(event):
    from datetime import datetime

    return datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


if __name__ == "__main__":
    main()
