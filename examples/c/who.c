/* An application with the elements in a pipeline of its own, in C.
 *
 *     make && ./who video.mp4 gallery.npz
 *
 * Prints who is in each frame (from the regions of interest of every buffer), and who appears and leaves
 * (from the messages of mfrrecognize on the bus). GStreamer has to find the plugin: install it, or set
 * GST_PLUGIN_PATH to the folder of libgstmfr.so.
 */

#include <glib-unix.h>
#include <gst/gst.h>
#include <gst/video/video.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    GMainLoop *loop;
    GstElement *pipeline;
    gboolean interrupted, failed;
} Application;

static gboolean is_control(gunichar c)
{
    return g_unichar_iscntrl(c) || c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

/* A text from outside, as a name in a gallery or an error of GStreamer. Characters that control the terminal or the
 * direction of text are escaped, and URIs do not give away the password of a camera. */
static gchar *printable(const gchar *text)
{
    static const gchar *const secrets[][2] = {
        /* A password that is not percent-encoded may hold any character. */
        {"(?<=://)(\\S*:\\S*@|[^\\s/?#]*@)", ""},
        {"([\\w-]*(?:pass|pwd|psw|token|secret|auth|key|sig)[\\w-]*=)[^&\\s]*", "\\1***"},
    };
    g_autofree gchar *valid = g_utf8_make_valid(text, -1);
    GString *shown = g_string_new(NULL);
    const gchar *c;
    gsize i;

    for (i = 0; i < G_N_ELEMENTS(secrets); i++) {
        GRegex *regex = g_regex_new(secrets[i][0], G_REGEX_CASELESS, 0, NULL);
        gchar *redacted = g_regex_replace(regex, valid, -1, 0, secrets[i][1], 0, NULL);

        g_regex_unref(regex);
        /* Fails where the text is too long for the backtracking: nothing is printed of it then. */
        g_free(valid);
        valid = redacted ? redacted : g_strdup("?");
    }
    for (c = valid; *c; c = g_utf8_next_char(c)) {
        gunichar code = g_utf8_get_char(c);

        if (is_control(code))
            g_string_append_printf(shown, "\\u%04x", code);
        else
            g_string_append_unichar(shown, code);
    }
    return g_string_free(shown, FALSE);
}

/* A string of a structure, "?" where it is absent, as for the mask of a face that was not classified. */
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

/* The stream time in seconds; timestamps may begin at any value. */
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
        g_autofree gchar *name = printable(text(identity, "label"));

        if (roi->roi_type != g_quark_from_static_string("face") || !identity)
            continue;
        printf("%7.2f s  face %d: %s (similarity %.2f, %s) at %u,%u %ux%u\n", time, roi->id,
               name, number(identity, "similarity"), text(mask, "label"), roi->x,
               roi->y, roi->w, roi->h);
    }
    return GST_PAD_PROBE_OK;
}

/* Prints a message of mfrrecognize, a line for each face. */
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
        g_autofree gchar *name = printable(text(face, "label"));

        printf("%7.2f s  %s %s\n", (gdouble)time / GST_SECOND, name, text(face, "event"));
    }
}

/* An error as GStreamer reports it, in one line. */
static void print_error(GstMessage *message)
{
    GError *error = NULL;
    g_autofree gchar *debug = NULL, *line = NULL, *shown = NULL;
    const gchar *detail;

    gst_message_parse_error(message, &error, &debug);
    /* The last line of the debug text is the element's; the others are places in GStreamer's code. */
    detail = debug ? strrchr(debug, '\n') : NULL;
    line = g_strdup_printf("%s: %s%s%s", GST_MESSAGE_SRC_NAME(message), error->message, detail ? " " : "",
                           detail ? detail + 1 : "");
    shown = printable(line);
    g_printerr("who: %s\n", shown);
    g_error_free(error);
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
    case GST_MESSAGE_ERROR:
        print_error(message);
        application->failed = TRUE;
        g_main_loop_quit(application->loop);
        break;
    case GST_MESSAGE_EOS:
        g_main_loop_quit(application->loop);
        break;
    default:
        break;
    }
    return G_SOURCE_CONTINUE;
}

/* Ctrl-C ends the stream, so that `left` is printed for all. A second one does not wait for that. */
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
    /* Paths that are set as properties, not in the launch line, need no quoting. */
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
        g_autofree gchar *reason = printable(error->message);

        g_printerr("who: %s\n", reason);
        g_error_free(error);
        return EXIT_FAILURE;
    }
    well = play(pipeline);
    gst_object_unref(pipeline);
    gst_deinit();
    return well ? EXIT_SUCCESS : EXIT_FAILURE;
}
