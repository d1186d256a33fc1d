//! Analysis of a photo: faces, their quality and pose, and their embeddings.

pub mod batch;
pub mod finder;
pub mod portrait;
pub mod pose;
pub mod quality;
pub mod reason;
