//! MP4 files that are written frame by frame.

use std::path::Path;

use gst::prelude::*;

pub type Error = Box<dyn std::error::Error>;

/// Encodes RGB frames into an MP4 file.
pub struct Writer {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
}

impl Writer {
    /// `encoder`: an x264enc element with its properties.
    pub fn create(path: &Path, info: &gst_video::VideoInfo, encoder: &str) -> Result<Self, Error> {
        let (pipeline, source) = pipeline::<gst_app::AppSrc>(
            &format!(
                "appsrc name=end ! videoconvert ! video/x-raw,format=I420 ! {encoder} ! mp4mux ! filesink name=file"
            ),
            path,
        )?;
        source.set_caps(Some(&info.to_caps()?));
        source.set_format(gst::Format::Time);
        // `write` waits while this many bytes wait for the encoder.
        source.set_block(true);
        source.set_max_bytes(4 * info.size() as u64);
        if pipeline.set_state(gst::State::Playing).is_err() {
            ended(&pipeline, false).ok_or("the encoder does not start")??;
        }
        Ok(Self { pipeline, source })
    }

    /// Returns false if the pipeline has failed; [`finish`](Self::finish) returns the reason.
    pub fn write(&mut self, frame: gst::Buffer) -> bool {
        self.source.push_buffer(frame).is_ok()
    }

    /// Waits until the file is complete.
    pub fn finish(self) -> Result<(), Error> {
        // Fails only where an error is waiting on the bus.
        let _ = self.source.end_of_stream();
        let ended = ended(&self.pipeline, true);
        self.pipeline.set_state(gst::State::Null)?;
        ended.unwrap_or(Ok(()))
    }
}

/// A pipeline between an element `file`, which gets the path, and an element `end`.
pub fn pipeline<E: IsA<gst::Element>>(
    line: &str,
    path: &Path,
) -> Result<(gst::Pipeline, E), Error> {
    let pipeline = gst::parse::launch(line)?
        .downcast::<gst::Pipeline>()
        .map_err(|_| "the launch line is no pipeline")?;
    let by_name = |name| pipeline.by_name(name).ok_or("element is missing");
    by_name("file")?.set_property("location", path.to_str().ok_or("path is not UTF-8")?);
    let end = by_name("end")?.downcast().map_err(|_| "another element")?;
    Ok((pipeline, end))
}

/// How a pipeline has ended; None where it has not yet and the caller does not wait.
pub fn ended(pipeline: &gst::Pipeline, waits: bool) -> Option<Result<(), Error>> {
    let bus = pipeline.bus()?;
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = if waits {
        bus.timed_pop_filtered(gst::ClockTime::NONE, &end)?
    } else {
        bus.pop_filtered(&end)?
    };
    Some(match message.view() {
        gst::MessageView::Error(e) => {
            let file = pipeline
                .by_name("file")?
                .property::<Option<String>>("location");
            Err(format!("{}: {}", file.unwrap_or_default(), e.error()).into())
        }
        _ => Ok(()),
    })
}
