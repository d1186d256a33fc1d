//! The `embedd.npz` of the original scripts: arr_0 holds the embeddings of the training photos, arr_1
//! their names; arr_2 and arr_3 hold the same of the validation photos and are not read.

use std::io::{Read, Seek};

use super::npz::NpzReader;
use super::{GalleryError, Kind, Parts, SvmPart};

/// Dimensions of an array of crops: number, height, width, channel.
const CROPS_DIMENSIONS: usize = 4;

pub fn parts<R: Read + Seek>(npz: &mut NpzReader<R>) -> Result<Parts, GalleryError> {
    if npz.shape("arr_0")?.len() == CROPS_DIMENSIONS {
        return Err(GalleryError::format(
            "crops of faces, as --faces-output of mfr-enroll writes them beside the gallery of --output".into(),
        ));
    }
    let embeddings = npz.floats::<ndarray::Ix2>(
        "arr_0",
        "float32 [N, D], the embeddings of the training photos",
    )?;
    let people = npz.array("arr_1")?;
    // A name is stored once for each photo, and once more for each person.
    let people = npz.texts(&people, "text [N], the names of the training photos")?;
    let mut names = people.clone();
    names.sort_unstable();
    names.dedup();
    let labels = people
        .iter()
        .map(|name| names.binary_search(name).unwrap_or(usize::MAX))
        .collect();
    let rows = people.len();
    Ok(Parts {
        names,
        embeddings,
        labels,
        sources: npz.repeated("sources", String::new(), rows)?,
        kinds: npz.repeated("kinds", Kind::Photo, rows)?,
        svm: SvmPart::Untrained,
        // The file does not name the network that the embeddings are from.
        statistics: None,
        calibration: None,
        thresholds: None,
        contract: None,
    })
}
