/* An application with the elements in a pipeline of its own, in C.
 *
 *     make && ./who video.mp4 gallery.npz
 *
 * Prints who is in each frame (from the regions of interest of every buffer), and who comes and goes
 * (from the messages of mfrrecognize on the bus). GStreamer has to find the plugin: install it, or set
 * GST_PLUGIN_PATH to the folder of libgstmfr.so.
 */

#include <glib-unix.h>
#include <gst/gst.h>
#include <gst/video/video.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    GMainLoop *loop;
    GstElement *pipeline;
    gboolean interrupted, failed;
} Application;

/* A text of a structure that may be absent, as the mask of a face that nobody has looked at. */
static const gchar *text(const GstStructure *structure, const gchar *field)
{
    const gchar *value = structure ? gst_structure_get_string(structure, field) : NULL;

    return value ? value : "?";
}

static gdouble number(const GstStructure *structure, const gchar *field)
{
    gdouble value = 0;

    gst_structure_get_double(structure, field, &value);
    return value;
}

/* Seconds into the video; time stamps may begin anywhere. */
static gdouble seconds(GstPad *pad, GstClockTime pts)
{
    GstEvent *event = gst_pad_get_sticky_event(pad, GST_EVENT_SEGMENT, 0);
    GstClockTime time = pts;

    if (event) {
        const GstSegment *segment;

        gst_event_parse_segment(event, &segment);
        time = gst_segment_to_stream_time(segment, GST_FORMAT_TIME, pts);
        gst_event_unref(event);
    }
    return GST_CLOCK_TIME_IS_VALID(time) ? (gdouble)time / GST_SECOND : -1;
}

/* Called for every buffer behind mfrrecognize, in a thread of the pipeline. */
static GstPadProbeReturn on_buffer(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER(info);
    gdouble time = seconds(pad, GST_BUFFER_PTS(buffer));
    gpointer state = NULL;
    GstMeta *meta;

    (void)data;
    while ((meta = gst_buffer_iterate_meta_filtered(
                buffer, &state, GST_VIDEO_REGION_OF_INTEREST_META_API_TYPE))) {
        GstVideoRegionOfInterestMeta *roi = (GstVideoRegionOfInterestMeta *)meta;
        GstStructure *identity = gst_video_region_of_interest_meta_get_param(roi, "identity");
        GstStructure *mask = gst_video_region_of_interest_meta_get_param(roi, "mask");

        if (roi->roi_type != g_quark_from_static_string("face") || !identity)
            continue;
        printf("%7.2f s  face %d: %s (similarity %.2f, %s) at %u,%u %ux%u\n", time, roi->id,
               text(identity, "label"), number(identity, "similarity"), text(mask, "label"), roi->x,
               roi->y, roi->w, roi->h);
    }
    return GST_PAD_PROBE_OK;
}

/* One line for each face that a message of mfrrecognize is about. */
static void print_events(const GstStructure *message)
{
    const GValue *faces = gst_structure_get_value(message, "faces");
    guint64 time = 0;
    guint i;

    if (!faces || !GST_VALUE_HOLDS_ARRAY(faces))
        return;
    gst_structure_get_uint64(message, "stream-time", &time);
    for (i = 0; i < gst_value_array_get_size(faces); i++) {
        const GstStructure *face = gst_value_get_structure(gst_value_array_get_value(faces, i));

        printf("%7.2f s  %s %s\n", (gdouble)time / GST_SECOND, text(face, "label"),
               text(face, "event"));
    }
}

static gboolean on_message(GstBus *bus, GstMessage *message, gpointer data)
{
    Application *application = data;

    (void)bus;
    switch (GST_MESSAGE_TYPE(message)) {
    case GST_MESSAGE_ELEMENT:
        if (gst_message_has_name(message, "mfrrecognize"))
            print_events(gst_message_get_structure(message));
        break;
    case GST_MESSAGE_ERROR: {
        GError *error = NULL;
        gchar *debug = NULL;

        gst_message_parse_error(message, &error, &debug);
        g_printerr("who: %s: %s\n%s\n", GST_MESSAGE_SRC_NAME(message), error->message,
                   debug ? debug : "");
        g_error_free(error);
        g_free(debug);
        application->failed = TRUE;
        g_main_loop_quit(application->loop);
        break;
    }
    case GST_MESSAGE_EOS:
        g_main_loop_quit(application->loop);
        break;
    default:
        break;
    }
    return G_SOURCE_CONTINUE;
}

/* Ctrl-C ends the stream, so that everybody leaves. Who presses it again means it. */
static gboolean on_interrupt(gpointer data)
{
    Application *application = data;

    if (application->interrupted ||
        !gst_element_send_event(application->pipeline, gst_event_new_eos()))
        g_main_loop_quit(application->loop);
    application->interrupted = TRUE;
    return G_SOURCE_CONTINUE;
}

/* The URI of a URI, a camera (/dev/video0) or a file. */
static gchar *to_uri(const gchar *source, GError **error)
{
    if (gst_uri_is_valid(source))
        return g_strdup(source);
    if (g_str_has_prefix(source, "/dev/"))
        return g_strconcat("v4l2://", source, NULL);
    return gst_filename_to_uri(source, error);
}

static GstElement *build(const gchar *source, const gchar *gallery, GError **error)
{
    gchar *uri = to_uri(source, error);
    GstElement *pipeline, *element;
    GstPad *pad;

    if (!uri)
        return NULL;
    pipeline = gst_parse_launch_full("uridecodebin name=source ! videoconvert ! queue ! mfrdetect "
                                     "! queue ! mfrrecognize name=recognize ! fakesink sync=false",
                                     NULL, GST_PARSE_FLAG_FATAL_ERRORS, error);
    if (!pipeline) {
        g_free(uri);
        return NULL;
    }
    /* As properties, and not in the launch line, paths need no quoting. */
    element = gst_bin_get_by_name(GST_BIN(pipeline), "source");
    g_object_set(element, "uri", uri, NULL);
    gst_object_unref(element);
    g_free(uri);

    element = gst_bin_get_by_name(GST_BIN(pipeline), "recognize");
    g_object_set(element, "database", gallery, NULL);
    pad = gst_element_get_static_pad(element, "src");
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, on_buffer, NULL, NULL);
    gst_object_unref(pad);
    gst_object_unref(element);
    return pipeline;
}

static gboolean play(GstElement *pipeline)
{
    Application application = {g_main_loop_new(NULL, FALSE), pipeline, FALSE, FALSE};
    GstBus *bus = gst_element_get_bus(pipeline);
    guint interrupt = g_unix_signal_add(SIGINT, on_interrupt, &application);

    gst_bus_add_watch(bus, on_message, &application);
    /* Where the state change fails, the reason is a message on the bus. */
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    g_main_loop_run(application.loop);
    gst_element_set_state(pipeline, GST_STATE_NULL);

    gst_bus_remove_watch(bus);
    gst_object_unref(bus);
    g_source_remove(interrupt);
    g_main_loop_unref(application.loop);
    return !application.failed;
}

int main(int argc, char *argv[])
{
    GError *error = NULL;
    GstElement *pipeline;
    gboolean well;

    /* A reader behind a pipe sees each line at once. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    gst_init(&argc, &argv);
    if (argc != 3) {
        g_printerr("Usage: %s SOURCE GALLERY.npz\n\n"
                   "  SOURCE  a video file, a URI (rtsp://...) or a camera (/dev/video0)\n",
                   argv[0]);
        return 2;
    }
    pipeline = build(argv[1], argv[2], &error);
    if (!pipeline) {
        g_printerr("who: %s\n", error->message);
        g_error_free(error);
        return EXIT_FAILURE;
    }
    well = play(pipeline);
    gst_object_unref(pipeline);
    gst_deinit();
    return well ? EXIT_SUCCESS : EXIT_FAILURE;
}
