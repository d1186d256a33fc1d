//! Crops of enrolled faces, which `mfr-enroll --faces-output` keeps, so that they can be embedded anew by another network.

use std::collections::HashMap;
use std::io::BufReader;
use std::path::Path;

use super::GalleryError;
use super::npz::NpzReader;
use crate::embed::INPUT_SIZE;
use crate::io::files::open_regular;

/// Bytes of a crop: RGB, 160×160.
const CROP: usize = INPUT_SIZE * INPUT_SIZE * 3;

/// The crops of photos and those of their masked copies: names of the arrays `uint8 [N, 160, 160, 3]` and of their sources.
const ARRAYS: [[&str; 2]; 2] = [["arr_0", "sources"], ["copies", "copy_sources"]];

/// Crops by the source of their embedding.
#[derive(Debug, Default)]
pub struct Crops {
    arrays: Vec<Vec<u8>>,
    /// The array and the place in it. Two copies of a photo with one kind of mask have the same source.
    places: HashMap<String, Vec<(usize, usize)>>,
}

impl Crops {
    /// Adds the crops of a file, which is read as a whole: up to 4 GiB, about 50,000 crops.
    pub fn add(&mut self, path: &Path) -> Result<(), GalleryError> {
        let file = open_regular(path).map_err(|reason| GalleryError::Read {
            path: path.to_owned(),
            reason,
        })?;
        self.read(NpzReader::new(BufReader::new(file)).map_err(|e| e.at(path))?)
            .map_err(|e| e.at(path))
    }

    fn read<R: std::io::Read + std::io::Seek>(
        &mut self,
        mut npz: NpzReader<R>,
    ) -> Result<(), GalleryError> {
        for [crops, sources] in ARRAYS {
            if !npz.contains(crops) || !npz.contains(sources) {
                return Err(GalleryError::format(format!(
                    "no arrays {crops} and {sources}, as --faces-output of this version writes them"
                )));
            }
            let sources = npz.array(sources)?;
            let sources = npz.texts(&sources, "text [N], sources of the crops")?;
            let bytes = npz.array(crops)?;
            let shape = [sources.len(), INPUT_SIZE, INPUT_SIZE, 3];
            let bytes = bytes.into_bytes(&shape)?;
            let array = self.arrays.len();
            self.arrays.push(bytes);
            for (place, source) in sources.into_iter().enumerate() {
                self.places.entry(source).or_default().push((array, place));
            }
        }
        Ok(())
    }

    /// The n-th crop of this source, from 0 on: packed RGB, 160×160.
    pub fn get(&self, source: &str, n: usize) -> Option<&[u8]> {
        let &(array, place) = self.places.get(source)?.get(n)?;
        self.arrays[array].get(place * CROP..(place + 1) * CROP)
    }

    /// The names of the arrays of a file, of photos and of masked copies; the second one of each holds the sources.
    pub fn arrays() -> [[&'static str; 2]; 2] {
        ARRAYS
    }
}
