//! What is seen in a photo: its faces, their quality and pose, and their embeddings.

pub mod batch;
pub mod finder;
pub mod portrait;
pub mod pose;
pub mod quality;
pub mod reason;
