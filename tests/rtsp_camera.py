"""A network camera that shows a photo: rtsp_camera.py PORT PHOTO.jpg, at rtsp://127.0.0.1:PORT/camera

Prints a line when it is ready, and runs until it is killed.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

port, photo = sys.argv[1:]
Gst.init(None)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=port)
factory = GstRtspServer.RTSPMediaFactory(shared=True)
# With sound, as cameras have it.
factory.set_launch(
    f'( filesrc location="{photo}" ! jpegdec ! videoconvert ! videoscale '
    "! video/x-raw,format=I420,width=334,height=640,pixel-aspect-ratio=1/1 "
    "! imagefreeze is-live=true ! video/x-raw,framerate=10/1 "
    "! x264enc speed-preset=ultrafast tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 "
    "audiotestsrc is-live=true wave=silence ! alawenc ! rtppcmapay name=pay1 )")
server.get_mount_points().add_factory("/camera", factory)
if not server.attach(None):
    sys.exit(f"port {port} is taken")
print("ready", flush=True)
GLib.MainLoop().run()
