//! Results for the frames of videos.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Learned, Refused, Shot};
use crate::input::dataset::Item;
use crate::output;
use crate::vision::reason::{Reason, Refusal};

/// Results for the frames of a video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Video {
    pub path: String,
    /// Number of analysed frames.
    pub frames: usize,
    pub used: usize,
    pub rejected: BTreeMap<Reason, usize>,
    /// Why no frames could be read after these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Video {
    fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            frames: 0,
            used: 0,
            rejected: BTreeMap::new(),
            error: None,
        }
    }

    /// Reasons and counts of rejected frames: `2 no_face, 5 blurred`.
    pub fn reasons(&self) -> String {
        let counts = self.rejected.iter();
        let counts = counts.map(|(reason, count)| format!("{count} {}", reason.name()));
        counts.collect::<Vec<_>>().join(", ")
    }

    /// The most frequent reason of its frames, for a video without a usable frame.
    pub fn refusal(&self) -> Option<Refusal> {
        if self.used > 0 {
            return None;
        }
        // Ties go to the first.
        let (&reason, _) = self
            .rejected
            .iter()
            .rev()
            .max_by_key(|(_, count)| **count)?;
        let frames = output::counted(self.frames, "frame");
        let detail = format!("nothing to use in {frames}: {}", self.reasons());
        Some((reason, detail))
    }
}

/// Counts the frames of every video by result.
pub fn videos(
    items: &[Item],
    learned: &[Learned],
    refused: &[(Shot, Refused)],
    mut errors: BTreeMap<usize, String>,
) -> BTreeMap<usize, Video> {
    let used = learned.iter().map(|l| (l.shot, None));
    let unused = refused
        .iter()
        .map(|(shot, refused)| (*shot, Some(refused.refusal.0)));
    let mut videos = BTreeMap::new();
    for (shot, reason) in used.chain(unused).filter(|(shot, _)| shot.time.is_some()) {
        let video = videos.entry(shot.item).or_insert_with(|| Video {
            error: errors.remove(&shot.item),
            ..Video::new(&items[shot.item].name)
        });
        video.frames += 1;
        match reason {
            Some(reason) => *video.rejected.entry(reason).or_default() += 1,
            None => video.used += 1,
        }
    }
    videos
}

#[cfg(test)]
mod tests {
    use super::super::samples::{frame, item, learned, photo};
    use super::*;

    #[test]
    fn frames_are_counted_by_what_became_of_them() {
        let items = ["a/1.jpg", "a/clip.mp4", "a/dark.mp4"].map(|name| item(0, name));
        assert_eq!(photo(0).name(&items), "a/1.jpg");
        assert_eq!(frame(1, 3).name(&items), "a/clip.mp4#t=3.00");
        let mut used = vec![learned(0, [1.0, 0.0]), learned(1, [0.0, 1.0])];
        used[1].shot = frame(1, 0);
        let refused = |shot, reason| (shot, Refused::from((reason, String::new())));
        let refused = [
            refused(frame(1, 1), Reason::Blurred),
            refused(frame(2, 0), Reason::TooDark),
            refused(frame(2, 1), Reason::NoFace),
            refused(frame(2, 2), Reason::TooDark),
        ];
        let errors = BTreeMap::from([(2, "cut".to_owned())]);
        let videos = videos(&items, &used, &refused, errors);
        assert_eq!(videos.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!((videos[&1].frames, videos[&1].used), (2, 1));
        assert_eq!(videos[&1].refusal(), None);
        assert_eq!(videos[&2].error.as_deref(), Some("cut"));
        let detail = "nothing to use in 3 frames: 1 no_face, 2 too_dark".to_owned();
        assert_eq!(videos[&2].refusal(), Some((Reason::TooDark, detail)));
    }
}
