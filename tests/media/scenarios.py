"""The scenarios of gst-validate, and the hosts in which they are played. See run.py.

gst-validate is not packaged in Debian 12. Its scenarios are driven here instead, each once with our elements and once
with each of two neutral elements in the same place. What reaches the sink must be the same.
"""

import random
import re
import time

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

SECONDS = 4
RATE = 25
SECOND = Gst.SECOND

FLUSH, ACCURATE, KEY_UNIT = Gst.SeekFlags.FLUSH, Gst.SeekFlags.ACCURATE, Gst.SeekFlags.KEY_UNIT
# Of GstPlayFlags, which PyGObject does not know.
VIDEO = 1
# A message that has not come by then is reported; run.py ends what hangs in a call.
PATIENCE = 30 * SECOND

# Tags come when a parser has seen enough of the stream, and gaps when the other stream of a player has ended: both are
# a matter of threads.
IGNORED_EVENTS = {Gst.EventType.TAG, Gst.EventType.GAP}


class Failure(Exception):
    pass


def filters(gallery):
    """What takes its place in a host. The neutral elements have the same base class as ours."""
    ours = f'mfrdetect ! mfrrecognize database="{gallery}" ! mfroverlay'
    return {"ours": ours, "identity": "identity", "videobalance": "videobalance"}


def described_segment(segment):
    def shown(value):
        return None if value == Gst.CLOCK_TIME_NONE else value

    return {
        "rate": segment.rate,
        "applied": segment.applied_rate,
        "start": shown(segment.start),
        "stop": shown(segment.stop),
        "time": shown(segment.time),
        "position": shown(segment.position),
        "base": segment.base,
    }


def described_event(event):
    """Type of the event and what of it must not change, as text."""
    name = Gst.EventType.get_name(event.type)
    if event.type == Gst.EventType.SEGMENT:
        return f"{name} {described_segment(event.parse_segment())}"
    if event.type == Gst.EventType.CAPS:
        # Each element may prefer another format of pixels.
        structure = event.parse_caps().get_structure(0)
        return f"{name} {structure.get_value('width')}x{structure.get_value('height')}"
    return name


def playbin(kind, line, clip, options):
    """A player, and its video sink."""
    pipeline = Gst.ElementFactory.make(kind)
    pipeline.set_property("uri", Gst.filename_to_uri(str(clip)))
    sink = Gst.parse_launch(f"fakesink {options}")
    # A sound that hurries ahead leaves nothing to preroll with after a pause.
    audio = Gst.parse_launch(f"fakesink {options}")
    pipeline.set_property("video-sink", sink)
    pipeline.set_property("audio-sink", audio)
    pipeline.set_property("video-filter", Gst.parse_bin_from_description(line, True))
    return pipeline, sink


def decodebin(line, clip, options):
    """A pipeline of an application's own, and its video sink."""
    pipeline = Gst.parse_launch(
        f'filesrc location="{clip}" ! decodebin name=decode audioconvert name=audio ! fakesink {options} '
        f"videoconvert name=video ! {line} ! fakesink name=sink {options}"
    )

    def link(_decode, pad):
        kind = pad.query_caps().get_structure(0).get_name().split("/")[0]
        pad.link(pipeline.get_by_name(kind).get_static_pad("sink"))

    # A launch line would link once, and not again after READY.
    pipeline.get_by_name("decode").connect("pad-added", link)
    return pipeline, pipeline.get_by_name("sink")


def videotestsrc(line, options):
    """A source that seeks without a demuxer, and the sink."""
    pipeline = Gst.parse_launch(
        f"videotestsrc name=source pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate={RATE}/1 "
        f"! {line} ! fakesink name=sink {options}"
    )
    # Without an end of its own. Its num-buffers would count the frames of all seeks.
    seek = Gst.Event.new_seek(
        1.0, Gst.Format.TIME, FLUSH, Gst.SeekType.SET, 0, Gst.SeekType.SET, SECONDS * SECOND
    )
    pipeline.get_by_name("source").send_event(seek)
    return pipeline, pipeline.get_by_name("sink")


class Host:
    """A pipeline with a filter in it, and the record of what its sink saw, what it answered and what it posted."""

    KINDS = ("playbin", "playbin3", "decodebin", "videotestsrc")

    def __init__(self, kind, line, clip, options):
        if kind == "videotestsrc":
            self.pipeline, self.sink = videotestsrc(line, options)
        elif kind == "decodebin":
            self.pipeline, self.sink = decodebin(line, clip, options)
        else:
            self.pipeline, self.sink = playbin(kind, line, clip, options)
        self.endless = kind == "videotestsrc"
        self.log, self.answers, self.reports = [], [], set()
        kinds = Gst.PadProbeType.BUFFER | Gst.PadProbeType.EVENT_DOWNSTREAM | Gst.PadProbeType.EVENT_FLUSH
        self.sink.get_static_pad("sink").add_probe(kinds, self.on_data)
        self.bus = self.pipeline.get_bus()

    def on_data(self, _pad, info):
        if info.type & Gst.PadProbeType.BUFFER:
            self.log.append(f"buffer {info.get_buffer().pts}")
        elif info.get_event().type not in IGNORED_EVENTS:
            entry = described_event(info.get_event())
            # mfroverlay, like textoverlay, offers its drawing as meta first and takes the offer back where the sink
            # does not lay it over frames: the same size twice.
            if not (entry.startswith("caps") and self.log and self.log[-1] == entry):
                self.log.append(entry)
        return Gst.PadProbeReturn.OK

    def state(self, state, wait=True):
        result = self.pipeline.set_state(state)
        if result == Gst.StateChangeReturn.FAILURE:
            self.drain()
            raise Failure(f"no change to {state.value_nick}; {sorted(self.reports)}")
        if wait:
            self.settle(state)

    def settle(self, wanted=None):
        result, state, _pending = self.pipeline.get_state(PATIENCE)
        if result not in (Gst.StateChangeReturn.SUCCESS, Gst.StateChangeReturn.NO_PREROLL):
            self.drain()
            raise Failure(f"the state is {state.value_nick}, {result.value_nick}; {sorted(self.reports)}")
        if wanted is not None and state != wanted:
            raise Failure(f"the state is {state.value_nick} instead of {wanted.value_nick}")

    def take(self, message):
        """Keeps what the message reports."""
        if message.type in (Gst.MessageType.ERROR, Gst.MessageType.WARNING):
            is_error = message.type == Gst.MessageType.ERROR
            error, _details = message.parse_error() if is_error else message.parse_warning()
            source = re.sub(r"\d+$", "", message.src.get_name())
            self.reports.add(f"{'error' if is_error else 'warning'} of {source}: {error.message}")

    def drain(self):
        while message := self.bus.pop():
            self.take(message)

    def wait(self, wanted=Gst.MessageType.EOS):
        while True:
            message = self.bus.timed_pop(PATIENCE)
            if message is None:
                raise Failure(f"no {Gst.MessageType.get_name(wanted)} came")
            self.take(message)
            if message.type == wanted:
                return message
            if message.type == Gst.MessageType.ERROR:
                raise Failure(f"{sorted(self.reports)}")

    def seek(self, start, flags=FLUSH | ACCURATE, rate=1.0, stop=None, wait=True):
        """Seeks, and waits for the frame of that position if the seek flushes and the pipeline is paused."""
        self.drain()
        if stop is None:
            # The type NONE would keep the stop of the seek before.
            stop = SECONDS * SECOND if self.endless else -1
        start, stop = int(start), int(stop)
        if self.endless:
            start = min(start, stop)
        done = self.pipeline.seek(rate, Gst.Format.TIME, flags, Gst.SeekType.SET, start, Gst.SeekType.SET, stop)
        self.answers.append(f"seek to {start}: {done}")
        if done and wait and flags & FLUSH:
            self.wait(Gst.MessageType.ASYNC_DONE)

    def query(self):
        """The position and duration of a pipeline at rest."""
        position = self.pipeline.query_position(Gst.Format.TIME)
        duration = self.pipeline.query_duration(Gst.Format.TIME)
        self.answers.append(f"position {tuple(position)}, duration {tuple(duration)}")

    def play(self, to=Gst.MessageType.EOS):
        self.pipeline.set_state(Gst.State.PLAYING)
        self.wait(to)

    def forget(self):
        """For scenarios that cut into running threads: from here on the record is the same every time."""
        self.log.clear()
        self.answers.clear()

    def keep_first_frames(self):
        """For scenarios whose seeks and states are reached in time, but after a varying number of frames."""
        previous = [""] + self.log[:-1]
        self.log[:] = [b for a, b in zip(previous, self.log) if not (a.startswith("buffer") and b.startswith("buffer"))]

    def end(self):
        _result, state, _pending = self.pipeline.get_state(0)
        self.answers.append(f"ended in {state.value_nick}")
        self.drain()
        self.pipeline.set_state(Gst.State.NULL)
        self.drain()
        return {"log": self.log, "answers": self.answers, "reports": sorted(self.reports)}


def paused(host):
    host.state(Gst.State.PAUSED)
    host.query()


def play(host):
    """From the beginning to the end, and after it a seek back and the end once more."""
    host.play()
    host.query()
    host.seek(3 * SECOND)
    host.wait()
    host.query()


def seek_forward(host):
    paused(host)
    for seconds in (0.5, 1.3, 2.2, 3.6):
        host.seek(seconds * SECOND)
        host.query()
    host.play()


def seek_forward_key_unit(host):
    paused(host)
    for seconds in (0.5, 1.3, 2.2, 3.6):
        host.seek(seconds * SECOND, FLUSH | KEY_UNIT)
        host.query()
    host.play()


def seek_backward(host):
    paused(host)
    for seconds in (3.6, 2.2, 1.3, 0):
        host.seek(seconds * SECOND)
        host.query()
    host.play()


def simple_seeks(host):
    """There and back, to the very end and beyond it."""
    paused(host)
    for seconds in (2, 0, 3, 1, 3.96, 0.04):
        host.seek(seconds * SECOND, FLUSH)
        host.query()
    # The end counts as a frame for a sink that is paused.
    host.seek(SECONDS * SECOND * 2, FLUSH)
    host.query()
    host.seek(3.5 * SECOND)
    host.play()


def seek_with_stop(host):
    paused(host)
    host.seek(SECOND, stop=2 * SECOND)
    host.query()
    host.play()
    host.query()


def seek_while_playing(host):
    """As from a player's slider: how many frames there are until the next seek is a matter of time."""
    host.state(Gst.State.PLAYING)
    for seconds in (2, 0.4, 3, 1):
        time.sleep(0.1)
        host.seek(seconds * SECOND)
    host.state(Gst.State.PAUSED)
    host.keep_first_frames()
    host.seek(3.4 * SECOND)
    host.query()
    host.play()


def scrub_forward(host):
    paused(host)
    for n in range(40):
        host.seek(n * SECOND // 10, FLUSH | KEY_UNIT if n % 2 else FLUSH | ACCURATE)
    host.query()


def scrub_backward(host):
    paused(host)
    for n in reversed(range(40)):
        host.seek(n * SECOND // 10)
    host.query()


def scrub_hastily(host):
    """Seeks that do not wait for the frame of the one before."""
    paused(host)
    for n in range(60):
        host.seek((n * 7 % 40) * SECOND // 10, FLUSH, wait=False)
    host.settle()
    host.forget()
    host.seek(2.6 * SECOND)
    host.query()
    host.play()


def looping(host):
    """Segment seeks that do not flush, as for an endless loop without a gap."""
    segment = Gst.SeekFlags.SEGMENT
    if host.pipeline.find_property("flags"):
        # With two streams playbin may never post the message.
        host.pipeline.set_property("flags", VIDEO)
    paused(host)
    host.seek(SECOND, FLUSH | ACCURATE | segment, stop=2 * SECOND)
    host.play(to=Gst.MessageType.SEGMENT_DONE)
    for _ in range(3):
        host.seek(SECOND, ACCURATE | segment, stop=2 * SECOND)
        host.wait(Gst.MessageType.SEGMENT_DONE)
    host.seek(SECOND, ACCURATE, stop=2 * SECOND)
    host.wait()


def pause_resume(host):
    """Position and frames stand still in PAUSED."""
    host.state(Gst.State.PLAYING)
    for _ in range(5):
        time.sleep(0.15)
        host.state(Gst.State.PAUSED)
        before = host.pipeline.query_position(Gst.Format.TIME)[1]
        frames = len(host.log)
        time.sleep(0.1)
        after = host.pipeline.query_position(Gst.Format.TIME)[1]
        if before != after or frames != len(host.log):
            raise Failure(f"PAUSED, and the position moved from {before} to {after}")
        host.state(Gst.State.PLAYING)
    host.wait()
    host.query()


def step(host):
    """Frame by frame."""
    paused(host)
    for frames in (1, 1, 5, 1):
        host.drain()
        host.pipeline.send_event(Gst.Event.new_step(Gst.Format.BUFFERS, frames, 1.0, True, False))
        host.wait(Gst.MessageType.STEP_DONE)
        host.settle(Gst.State.PAUSED)
    host.query()


def change_state_intensive(host):
    null, ready, paused_, playing = Gst.State.NULL, Gst.State.READY, Gst.State.PAUSED, Gst.State.PLAYING
    for _ in range(4):
        for state in (ready, paused_, playing, paused_, ready, null, playing, ready, paused_, null):
            host.state(state)
    for state in (ready, playing, paused_, null, paused_, playing):
        host.state(state)
    host.state(paused_)
    host.keep_first_frames()
    host.seek(2 * SECOND)
    host.query()


def change_state_hastily(host):
    """States that are left before they are reached, in the same random order each time."""
    order = random.Random(1)
    states = (Gst.State.NULL, Gst.State.READY, Gst.State.PAUSED, Gst.State.PLAYING)
    for _ in range(60):
        host.state(order.choice(states), wait=False)
        time.sleep(order.choice((0, 0, 0.01, 0.05)))
    host.state(Gst.State.READY)
    host.forget()
    host.state(Gst.State.PAUSED)
    host.query()


def fast_forward(host):
    for rate in (2.0, 8.0):
        host.state(Gst.State.PAUSED)
        host.seek(0, rate=rate)
        host.query()
        host.play()
        host.query()


def fast_forward_late(host):
    """In time and with frames dropped that are late, as in a player; how many are is not compared."""
    for rate in (4.0, 8.0):
        host.state(Gst.State.PAUSED)
        host.seek(0, rate=rate)
        host.play()


def trick_mode(host):
    """Key frames alone, forward and backward."""
    flags = FLUSH | Gst.SeekFlags.TRICKMODE | Gst.SeekFlags.TRICKMODE_KEY_UNITS
    host.state(Gst.State.PAUSED)
    host.seek(0, flags, rate=4.0)
    host.play()
    host.state(Gst.State.PAUSED)
    host.seek(0, flags, rate=-4.0, stop=SECONDS * SECOND)
    host.play()


def reverse(host):
    """To the beginning from the end, then from the middle, then forward again."""
    paused(host)
    host.seek(0, rate=-1.0, stop=SECONDS * SECOND)
    host.query()
    host.play()
    host.state(Gst.State.PAUSED)
    host.seek(0, rate=-2.0, stop=2.5 * SECOND)
    host.query()
    host.play()
    host.seek(3 * SECOND)
    host.wait()


def instant_rate_change(host):
    """Another rate without a flush: no frame is lost or repeated."""
    host.state(Gst.State.PLAYING)
    for rate in (2.0, 0.5, 4.0):
        time.sleep(0.1)
        flags = Gst.SeekFlags.INSTANT_RATE_CHANGE
        done = host.pipeline.seek(rate, Gst.Format.TIME, flags, Gst.SeekType.NONE, -1, Gst.SeekType.NONE, -1)
        host.answers.append(f"rate {rate}: {done}")
    host.wait()
    # How often the event is repeated, and between which frames, is a matter of time.
    host.log[:] = sorted(set(host.log))


def gapless(host):
    """The same file three times, each begun before the one before has ended."""
    uri = host.pipeline.get_property("uri")
    again = iter((uri, uri))

    def next_file(player):
        if following := next(again, None):
            player.set_property("uri", following)

    host.pipeline.connect("about-to-finish", next_file)
    host.play()
    host.query()


def video_off_and_on(host):
    """The filter is taken out of a player that goes on with the sound, and comes back."""
    flags = int(host.pipeline.get_property("flags"))
    host.state(Gst.State.PLAYING)
    for _ in range(4):
        for value in (flags & ~VIDEO, flags):
            time.sleep(0.15)
            host.pipeline.set_property("flags", value)
    host.wait()
    host.forget()


UNTIMED, TIMED = "sync=false", "sync=true"
# The sink of a player: it reports lateness upstream and drops what is too late.
LATE = "sync=true qos=true max-lateness=20000000"

SCENARIOS = {
    "play": (play, UNTIMED),
    "seek-forward": (seek_forward, UNTIMED),
    "seek-forward-key-unit": (seek_forward_key_unit, UNTIMED),
    "seek-backward": (seek_backward, UNTIMED),
    "simple-seeks": (simple_seeks, UNTIMED),
    "seek-with-stop": (seek_with_stop, UNTIMED),
    "seek-while-playing": (seek_while_playing, TIMED),
    "scrub-forward": (scrub_forward, UNTIMED),
    "scrub-backward": (scrub_backward, UNTIMED),
    "scrub-hastily": (scrub_hastily, UNTIMED),
    "looping": (looping, UNTIMED),
    "pause-resume": (pause_resume, TIMED),
    "step": (step, UNTIMED),
    "change-state-intensive": (change_state_intensive, TIMED),
    "change-state-hastily": (change_state_hastily, TIMED),
    "fast-forward": (fast_forward, UNTIMED),
    "fast-forward-late": (fast_forward_late, LATE),
    "trick-mode": (trick_mode, UNTIMED),
    "reverse": (reverse, UNTIMED),
    "instant-rate-change": (instant_rate_change, TIMED),
    "gapless": (gapless, UNTIMED),
    "video-off-and-on": (video_off_and_on, TIMED),
}
# What only some hosts can do. playbin of 1.22 hangs at the second file, with neutral elements too.
HOSTS = {"gapless": ("playbin3",), "video-off-and-on": ("playbin", "playbin3")}


def names():
    """Pairs of a host and a scenario."""
    for kind in Host.KINDS:
        for name in SCENARIOS:
            if kind in HOSTS.get(name, Host.KINDS):
                yield kind, name


def record(kind, name, which, clip, gallery):
    """Plays a scenario in a host with one of the filters. What comes back is compared by run.py."""
    scenario, options = SCENARIOS[name]
    host = Host(kind, filters(gallery)[which], clip, options)
    begin, failure = time.monotonic(), None
    try:
        scenario(host)
    except Failure as error:
        failure = str(error)
    seconds = time.monotonic() - begin
    result = host.end()
    if options == LATE:
        result["log"] = [entry for entry in result["log"] if not entry.startswith("buffer")]
    return {**result, "failure": failure, "seconds": seconds}


def first_difference(ours, neutral):
    for n, (a, b) in enumerate(zip(ours, neutral)):
        if a != b:
            return f"entry {n} is {a}, with a neutral element {b}"
    longer, what = (ours, "more") if len(ours) > len(neutral) else (neutral, "less")
    n = min(len(ours), len(neutral))
    return f"{abs(len(ours) - len(neutral))} {what} of {len(neutral)}, from {longer[n]}"


def compare(ours, identity, videobalance):
    """Outcome and reason. Each argument is a record, or a text that says how its process ended."""
    neutral = [r for r in (videobalance, identity) if not isinstance(r, str)]
    if not neutral:
        return "left out", f"it fails with neutral elements too: {videobalance}"
    if isinstance(ours, str):
        return "FAILED", ours
    if ours["failure"] and any(ours["failure"] == r["failure"] for r in neutral):
        return "left out", f"it fails with neutral elements too: {ours['failure']}"
    reported = set().union(*(r["reports"] for r in neutral))
    if more := set(ours["reports"]) - reported:
        return "FAILED", "; ".join(sorted(more))
    # Where the two neutral elements differ, either will do.
    for key in ("failure", "log", "answers"):
        if all(ours[key] != r[key] for r in neutral):
            theirs = neutral[0][key]
            if key == "failure":
                return "FAILED", f"{ours[key]}, with a neutral element: {theirs}"
            return "FAILED", first_difference(ours[key], theirs)
    return "ok", ""
