//! What is printed: a line of JSON for each event or frame.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use gst::prelude::*;
use gst::{ClockTime, glib};
use gstmfr::Message;
use gstmfr::plugin::message::FaceNews;
use gstmfr::plugin::meta::{self, Face};
use serde_json::{Map, Value, json};

use gstmfr::io::text;

/// Standard output, which several threads write to, and whether all are to stop.
#[derive(Default)]
pub struct Output {
    stopped: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl Output {
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Prints a line that a reader behind a pipe sees at once. A reader that closes the pipe, as `head` does, ends
    /// everything.
    fn print(&self, line: &Value) {
        let line = text::escape_json(&line.to_string());
        let mut stdout = io::stdout().lock();
        let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        if let Err(error) = written {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            self.stop();
        }
    }

    pub fn finish(&self) -> anyhow::Result<()> {
        let failure = self.failure.lock();
        match failure.unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("standard output")
            }
            _ => Ok(()),
        }
    }
}

/// Prints every frame that comes to a pad, from its metadata.
pub fn print_frames(pad: &gst::Pad, source: &str, output: &Arc<Output>) {
    let (source, output) = (source.to_owned(), Arc::clone(output));
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let caps = pad.current_caps();
        let frame = caps.and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok());
        if let (Some(buffer), Some(frame)) = (info.buffer(), frame) {
            let size = (frame.width(), frame.height());
            let faces = meta::faces(buffer, size);
            let objects: Vec<_> = faces.iter().map(|face| object(face, size)).collect();
            let segment = pad.sticky_event::<gst::event::Segment>(0);
            let time = segment.and_then(|event| {
                let segment = event.segment().downcast_ref::<ClockTime>()?;
                segment.to_stream_time(buffer.pts())
            });
            let mut line = heading(&source, time);
            line.insert("objects".into(), objects.into());
            let resolution = json!({"width": size.0, "height": size.1});
            line.insert("resolution".into(), resolution);
            output.print(&line.into());
        }
        gst::PadProbeReturn::Ok
    });
}

/// What every line has: the source, the stream time in nanoseconds, and the wall-clock time.
fn heading(source: &str, time: Option<ClockTime>) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("source".into(), source.into());
    if let Some(time) = time {
        line.insert("timestamp".into(), time.nseconds().into());
    }
    let now = glib::DateTime::now_utc().and_then(|now| now.format("%Y-%m-%dT%H:%M:%S.%fZ"));
    if let Ok(now) = now {
        line.insert("time".into(), now.as_str().into());
    }
    line
}

/// A face of a frame; the bounding box in 0…1 of the frame, the rest in pixels.
fn object(face: &Face, (width, height): meta::FrameSize) -> Value {
    let rect = &face.rect;
    let share = |value: f32, whole: u32| (f64::from(value) / f64::from(whole)).clamp(0.0, 1.0);
    let mut object = json!({
        "roi_type": meta::ROI_TYPE,
        "id": face.id,
        "x": rect.x.round() as i32,
        "y": rect.y.round() as i32,
        "w": rect.width.round() as i32,
        "h": rect.height.round() as i32,
        "detection": {
            "label": meta::ROI_TYPE,
            "label_id": 0,
            "confidence": face.confidence,
            "bounding_box": {
                "x_min": share(rect.x, width),
                "y_min": share(rect.y, height),
                "x_max": share(rect.right(), width),
                "y_max": share(rect.bottom(), height),
            },
        },
    });
    if let Some(identity) = &face.identity {
        object["identity"] = json!({
            "label": identity.label,
            "label_id": identity.label_id,
            "confidence": identity.confidence,
            "similarity": identity.similarity,
            "model": {"name": identity.model_name},
        });
    }
    if let Some(mask) = &face.mask {
        object["mask"] = json!({
            "label": mask.label,
            "confidence": mask.confidence,
            "model": {"name": mask.model_name},
        });
    }
    object
}

/// Prints a message of `mfrrecognize`, a line for each face.
pub fn print_events(message: Option<&gst::StructureRef>, source: &str, output: &Output) {
    // Other elements post messages too.
    let Some(Ok(message)) = message.map(Message::try_from) else {
        return;
    };
    for face in &message.faces {
        let mut line = heading(source, message.stream_time);
        line.extend(event(face));
        output.print(&line.into());
    }
}

/// A face of a message with the keys that it has in frames; pixels and nanoseconds.
fn event(face: &FaceNews) -> Map<String, Value> {
    let [x, y, w, h] = face.rect;
    let nanoseconds = |time: Option<ClockTime>| time.map(|time| time.nseconds().into());
    let mask = |(label, confidence)| json!({"label": label, "confidence": confidence});
    fields([
        ("event", face.event.map(|event| event.name().into())),
        ("roi_type", Some(meta::ROI_TYPE.into())),
        ("id", Some(face.id.into())),
        ("x", Some(x.into())),
        ("y", Some(y.into())),
        ("w", Some(w.into())),
        ("h", Some(h.into())),
        (
            "identity",
            Some(json!({
                "label": face.label,
                "label_id": face.label_id,
                "confidence": face.confidence,
                "similarity": face.similarity,
            })),
        ),
        ("mask", face.mask.clone().map(mask)),
        (
            "previous_label",
            face.previous_label.clone().map(Value::from),
        ),
        ("previous_mask", face.previous_mask.clone().map(Value::from)),
        ("first_seen", nanoseconds(face.first_seen)),
        ("last_seen", nanoseconds(face.last_seen)),
    ])
}

/// The fields that are there.
fn fields<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let there = |(key, value): (&str, Option<Value>)| Some((key.to_owned(), value?));
    fields.into_iter().filter_map(there).collect()
}
