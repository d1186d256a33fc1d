//! Analysis of photos and video frames: detection of faces (`finder`), their quality (`quality`) and head pose (`pose`),
//! embedding in batches by several workers (`batch`), why a file is not used (`reason`), and what a report shows of a photo
//! (`portrait`).

pub mod batch;
pub mod finder;
pub mod portrait;
pub mod pose;
pub mod quality;
pub mod reason;
