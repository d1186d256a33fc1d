"""Programs and elements through which applications use the elements. See run.py.

Each client plays the clip, in which Barack Obama and then Joe Biden are seen, and checks that as many frames come out
as without our elements, that both are named, and that no warning and no error is posted.
"""

import hashlib
import pathlib
import tempfile
import threading
import time

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

from scenarios import RATE, SECONDS, Failure, filters  # noqa: E402

FRAMES = SECONDS * RATE
NAMES = {"Barack Obama", "Joe Biden"}
PATIENCE = 90


class LeftOut(Exception):
    """What this client needs is not there."""


class Tap:
    """What passes the sink pad of an element: timestamps, and a digest of the pixels."""

    def __init__(self, element):
        self.times, self.digest = [], hashlib.sha256()
        element.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, self.on_buffer)

    def on_buffer(self, _pad, info):
        buffer = info.get_buffer()
        self.times.append(buffer.pts)
        self.digest.update(buffer.extract_dup(0, buffer.get_size()))
        return Gst.PadProbeReturn.OK

    def __len__(self):
        return len(self.times)


def require(condition, text):
    if not condition:
        raise Failure(text)


def named_in(message):
    """The people whom an element message of mfrrecognize names."""
    structure = message.get_structure()
    if structure is None or structure.get_name() != "mfrrecognize":
        return set()
    # PyGObject cannot read arrays of structures. The text escapes a space, more than once where it is nested.
    text = structure.to_string().replace("\\", "")
    return {name for name in NAMES if name in text}


class Player:
    """A pipeline that is played to its end."""

    def __init__(self, pipeline):
        self.pipeline = Gst.parse_launch(pipeline) if isinstance(pipeline, str) else pipeline
        self.names = set()

    def tap(self, name):
        return Tap(self.pipeline.get_by_name(name))

    def until(self, wanted=Gst.MessageType.EOS, seconds=PATIENCE):
        bus, end = self.pipeline.get_bus(), time.monotonic() + seconds
        while True:
            message = bus.timed_pop(max(0, int((end - time.monotonic()) * Gst.SECOND)))
            require(message is not None, f"no {Gst.MessageType.get_name(wanted)} within {seconds} s")
            if message.type == Gst.MessageType.ERROR:
                raise Failure(f"{message.src.get_name()}: {message.parse_error()[0].message}")
            if message.type == Gst.MessageType.WARNING:
                raise Failure(f"{message.src.get_name()} warns: {message.parse_warning()[0].message}")
            if message.type == Gst.MessageType.ELEMENT:
                self.names |= named_in(message)
            if message.type == wanted:
                return message

    def play(self, seconds=PATIENCE):
        self.pipeline.set_state(Gst.State.PLAYING)
        try:
            self.until(seconds=seconds)
        finally:
            self.pipeline.set_state(Gst.State.NULL)
        return self

    def expect(self, names=NAMES):
        require(self.names == names, f"named were {sorted(self.names)} instead of {sorted(names)}")


def decoded(clip):
    return f'filesrc location="{clip}" ! decodebin ! videoconvert'


def frames_of(path):
    """How many frames a file has that another client has written."""
    player = Player(f'{decoded(path)} ! fakesink name=out sync=false')
    tap = player.tap("out")
    player.play()
    return len(tap)


def uridecodebin3(clip, ours, _folder):
    player = Player(f'uridecodebin3 uri="{Gst.filename_to_uri(str(clip))}" ! {ours} ! fakesink name=out sync=false')
    tap = player.tap("out")
    player.play().expect()
    require(len(tap) == FRAMES, f"{len(tap)} frames")


def splitmuxsink(clip, ours, folder):
    """A file for each second, all of which can be played on their own."""
    player = Player(
        f"{decoded(clip)} ! {ours} ! x264enc speed-preset=ultrafast key-int-max={RATE} ! h264parse "
        f'! splitmuxsink max-size-time={Gst.SECOND} location="{folder}/part%02d.mp4"'
    )
    player.play().expect()
    counts = [frames_of(part) for part in sorted(folder.glob("part*.mp4"))]
    require(counts == [RATE] * SECONDS, f"the parts have {counts} frames")


def tee(clip, ours, _folder):
    """A branch without our elements gets the same pixels whatever another one draws; two branches draw the same."""
    reference = Player(f"{decoded(clip)} ! fakesink name=out sync=false")
    plain = reference.tap("out")
    reference.play()
    one = Player(
        f"{decoded(clip)} ! tee name=t ! queue ! {ours} ! fakesink name=drawn sync=false "
        "t. ! queue ! fakesink name=plain sync=false"
    )
    taps = one.tap("drawn"), one.tap("plain")
    one.play().expect()
    require([len(tap) for tap in taps] == [FRAMES, FRAMES], "a branch lost frames")
    require(taps[1].digest.digest() == plain.digest.digest(), "mfroverlay drew into frames of the other branch")
    require(taps[0].digest.digest() != plain.digest.digest(), "mfroverlay drew nothing")
    both = Player(
        f"{decoded(clip)} ! tee name=t ! queue ! {ours} ! fakesink name=a sync=false "
        f"t. ! queue ! {ours} ! fakesink name=b sync=false"
    )
    taps = both.tap("a"), both.tap("b")
    both.play().expect()
    require([len(tap) for tap in taps] == [FRAMES, FRAMES], "a branch lost frames")
    require(taps[0].digest.digest() == taps[1].digest.digest(), "the two branches differ")


def compositor(clip, ours, _folder):
    """Four filtered inputs, and a fifth instance on the picture made of them."""
    inputs = " ".join(
        f'filesrc location="{clip}" ! decodebin ! videoconvert ! {ours} ! queue ! mix.sink_{n}' for n in range(4)
    )
    places = " ".join(f"sink_{n}::xpos={n % 2 * 640} sink_{n}::ypos={n // 2 * 360}" for n in range(4))
    player = Player(f"compositor name=mix {places} ! videoconvert ! {ours} ! fakesink name=out sync=false {inputs}")
    tap = player.tap("out")
    player.play().expect()
    require(len(tap) >= FRAMES, f"{len(tap)} frames")


def intervideo(clip, ours, _folder):
    """From one pipeline to another, live: the second one goes on with black frames when the first one has ended."""
    sending = Player(f"{decoded(clip)} ! video/x-raw,format=I420 ! {ours} ! intervideosink channel=media")
    receiving = Player(
        f"intervideosrc channel=media timeout=300000000 num-buffers={FRAMES + RATE} "
        f"! video/x-raw,format=I420,width=640,height=360,framerate={RATE}/1 ! {ours} ! fakesink name=out"
    )
    tap = receiving.tap("out")
    receiving.pipeline.set_state(Gst.State.PLAYING)
    sending.play().expect()
    receiving.play().expect()
    require(len(tap) == FRAMES + RATE, f"{len(tap)} frames")


def encoding_profile():
    gi.require_version("GstPbutils", "1.0")
    from gi.repository import GstPbutils

    container, video = Gst.Caps.from_string("video/x-matroska"), Gst.Caps.from_string("video/x-h264")
    profile = GstPbutils.EncodingContainerProfile.new("mkv", None, container, None)
    profile.add_profile(GstPbutils.EncodingVideoProfile.new(video, None, None, 0))
    return profile


def ges_timeline(clip, effects, layout):
    """A pipeline of clips on a layer, each with the effects. In layout: start, in-point and duration in seconds."""
    try:
        gi.require_version("GES", "1.0")
        from gi.repository import GES
    except (ImportError, ValueError) as error:
        raise LeftOut(f"no GES: {error}") from error
    GES.init()
    timeline = GES.Timeline.new()
    track = GES.VideoTrack.new()
    caps = f"video/x-raw,width=640,height=360,framerate={RATE}/1"
    track.set_restriction_caps(Gst.Caps.from_string(caps))
    timeline.add_track(track)
    timeline.props.auto_transition = True
    layer = timeline.append_layer()
    asset = GES.UriClipAsset.request_sync(Gst.filename_to_uri(str(clip)))
    for start, inpoint, duration in layout:
        added = layer.add_asset(
            asset, int(start * Gst.SECOND), int(inpoint * Gst.SECOND), int(duration * Gst.SECOND), GES.TrackType.VIDEO
        )
        require(added is not None, "GES refused the clip")
        for effect in effects:
            require(added.add(GES.Effect.new(effect)), f"GES refused the effect {effect}")
    timeline.commit()
    pipeline = GES.Pipeline.new()
    pipeline.set_timeline(timeline)
    return GES, pipeline


# Two clips that overlap, for a transition, and one after them.
LAYOUT = ((0, 0, 2), (1.5, 2.5, 1.5), (3, 0.5, 1))


def ges_render(clip, ours, folder):
    counts = []
    for effect in ("identity", ours):
        ges, pipeline = ges_timeline(clip, [effect], LAYOUT)
        path = folder / f"render{len(counts)}.mkv"
        pipeline.set_render_settings(Gst.filename_to_uri(str(path)), encoding_profile())
        pipeline.set_mode(ges.PipelineFlags.RENDER)
        player = Player(pipeline).play()
        counts.append(frames_of(path))
    player.expect()
    require(counts[0] == counts[1] == FRAMES, f"{counts[1]} frames, without effects {counts[0]}")


def ges_preview(clip, ours, _folder):
    """Preview, with seeks across the cuts."""
    ges, pipeline = ges_timeline(clip, [ours], LAYOUT)
    sink = Gst.parse_launch("fakesink name=out sync=false")
    pipeline.preview_set_video_sink(sink)
    pipeline.set_mode(ges.PipelineFlags.VIDEO_PREVIEW)
    tap = Tap(sink)
    player = Player(pipeline)
    pipeline.set_state(Gst.State.PAUSED)
    player.until(Gst.MessageType.ASYNC_DONE)
    for seconds in (3.5, 1.6, 0.4, 2.4):
        tap.times.clear()
        pipeline.seek_simple(Gst.Format.TIME, Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE, int(seconds * Gst.SECOND))
        player.until(Gst.MessageType.ASYNC_DONE)
        position = pipeline.query_position(Gst.Format.TIME)[1]
        require(abs(position - seconds * Gst.SECOND) <= Gst.SECOND // RATE, f"{position} ns instead of {seconds} s")
    pipeline.seek_simple(Gst.Format.TIME, Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE, 0)
    player.until(Gst.MessageType.ASYNC_DONE)
    tap.times.clear()
    player.play().expect()
    require(len(tap) >= FRAMES - 1, f"{len(tap)} frames")


def ges_rate(clip, ours, _folder):
    """A clip at twice and at half its rate, with our elements before and behind videorate."""
    for rate, before in ((2.0, True), (2.0, False), (0.5, True), (0.5, False)):
        counts = []
        for effect in ("identity", ours):
            effects = [effect, f"videorate rate={rate}"]
            ges, pipeline = ges_timeline(clip, effects if before else effects[::-1], ((0, 0, 2),))
            sink = Gst.parse_launch("fakesink name=out sync=false")
            pipeline.preview_set_video_sink(sink)
            pipeline.set_mode(ges.PipelineFlags.VIDEO_PREVIEW)
            tap = Tap(sink)
            player = Player(pipeline).play()
            counts.append(tap.times)
        require("Barack Obama" in player.names, "Barack Obama was not named")
        require(counts[0] == counts[1], f"rate {rate}: {len(counts[1])} frames, without our effect {len(counts[0])}")


def seek_in_rtsp(location):
    """A client that seeks while it plays: the server does so in its own pipeline."""
    player = Player(
        f"rtspsrc location={location} latency=0 protocols=tcp ! rtph264depay ! avdec_h264 "
        "! fakesink name=out sync=false"
    )
    tap, pipeline = player.tap("out"), player.pipeline
    pipeline.set_state(Gst.State.PLAYING)
    try:
        for seconds in (2, 0.5):
            time.sleep(0.5)
            done = pipeline.seek_simple(Gst.Format.TIME, Gst.SeekFlags.FLUSH, int(seconds * Gst.SECOND))
            require(done, "the client could not seek")
            tap.times.clear()
            pipeline.set_state(Gst.State.PLAYING)
            end = time.monotonic() + 20
            while len(tap) < 5:
                require(time.monotonic() < end, f"{len(tap)} frames after a seek to {seconds} s")
                time.sleep(0.05)
    finally:
        pipeline.set_state(Gst.State.NULL)


def rtsp_server(clip, ours, _folder):
    """A server whose launch line has our elements, and ten clients, one after the other."""
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GstRtspServer

    server = GstRtspServer.RTSPServer(address="127.0.0.1", service="0")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( {decoded(clip)} ! {ours} ! x264enc speed-preset=ultrafast tune=zerolatency key-int-max=10 "
        "! rtph264pay name=pay0 )"
    )
    server.get_mount_points().add_factory("/media", factory)
    require(server.attach(None), "no port for the server")
    loop = GLib.MainLoop()
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        location = f"rtsp://127.0.0.1:{server.get_bound_port()}/media"
        for _ in range(10):
            # How a client ends depends on when the server hangs up, so each stops of itself after some frames.
            player = Player(
                f"rtspsrc location={location} latency=0 protocols=tcp ! rtph264depay ! avdec_h264 "
                "! identity eos-after=6 ! fakesink name=out sync=false"
            )
            tap = player.tap("out")
            player.play(seconds=30)
            require(len(tap) == 5, f"{len(tap)} frames")
        seek_in_rtsp(location)
    finally:
        loop.quit()
        thread.join()


def opencv(clip, ours, folder):
    """Frames read into OpenCV, with a seek, and frames written by it."""
    try:
        import cv2
    except ImportError as error:
        raise LeftOut(f"no OpenCV: {error}") from error
    if not any("GStreamer" in line and "YES" in line for line in cv2.getBuildInformation().splitlines()):
        raise LeftOut("OpenCV was built without GStreamer")
    counts, pictures = [], []
    for line in ("identity", ours):
        capture = cv2.VideoCapture(
            f"{decoded(clip)} ! {line} ! videoconvert ! video/x-raw,format=BGR ! appsink sync=false", cv2.CAP_GSTREAMER
        )
        require(capture.isOpened(), f"OpenCV could not open the line with {line}")
        counts.append(0)
        while True:
            read, picture = capture.read()
            if not read:
                break
            if counts[-1] == 20:
                pictures.append(picture.copy())
            counts[-1] += 1
        capture.release()
    require(counts == [FRAMES, FRAMES], f"{counts[1]} frames, without our elements {counts[0]}")
    require((pictures[0] != pictures[1]).any(), "nothing was drawn")
    path = folder / "written.mp4"
    line = f'appsrc ! videoconvert ! {ours} ! x264enc speed-preset=ultrafast ! mp4mux ! filesink location="{path}"'
    writer = cv2.VideoWriter(line, cv2.CAP_GSTREAMER, 0, float(RATE), (640, 360))
    require(writer.isOpened(), "OpenCV could not open a line to write to")
    for _ in range(RATE):
        writer.write(pictures[0])
    writer.release()
    require(frames_of(path) == RATE, f"{frames_of(path)} frames were written")


CLIENTS = {
    "uridecodebin3": uridecodebin3,
    "splitmuxsink": splitmuxsink,
    "tee": tee,
    "compositor": compositor,
    "intervideo": intervideo,
    "ges-render": ges_render,
    "ges-preview": ges_preview,
    "ges-rate": ges_rate,
    "rtsp-server": rtsp_server,
    "opencv": opencv,
}


def play(name, clip, gallery):
    """Outcome and reason."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            CLIENTS[name](clip, filters(gallery)["ours"], pathlib.Path(folder))
        except Failure as failure:
            return {"outcome": "FAILED", "text": str(failure)}
        except LeftOut as reason:
            return {"outcome": "left out", "text": str(reason)}
    return {"outcome": "ok", "text": ""}
