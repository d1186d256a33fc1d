//! Pipelines from launch lines.

use std::path::Path;

use gst::prelude::*;

use super::Error;

/// A path quoted for a launch line.
pub fn quoted(path: &Path) -> Result<String, Error> {
    let path = path.to_str().ok_or("path is not UTF-8")?;
    Ok(format!(
        "\"{}\"",
        path.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

pub fn launch(line: &str) -> Result<gst::Pipeline, Error> {
    let pipeline = gst::parse::launch(line)?.downcast();
    Ok(pipeline.map_err(|_| "the launch line is no pipeline")?)
}

/// Plays a pipeline until end of stream.
pub fn until_end(pipeline: &gst::Pipeline) -> Result<(), Error> {
    // The reason for a failed start is posted on the bus.
    let _ = pipeline.set_state(gst::State::Playing);
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &end);
    pipeline.set_state(gst::State::Null)?;
    match message.as_ref().map(|m| m.view()) {
        Some(gst::MessageView::Error(e)) => Err(e.error().to_string().into()),
        _ => Ok(()),
    }
}
