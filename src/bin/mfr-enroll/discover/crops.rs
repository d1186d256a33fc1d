//! The crops of faces that are written for each person: wide enough that they can be enrolled like photos.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use gstmfr::frame::geometry::Rect;
use gstmfr::frame::resize::{Border, Filter, Resize, Resizer};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use super::{Fate, FoundFace, LocatedFace};
use crate::input::dataset::Item;
use crate::input::photo::DecodedPhoto;
use crate::input::source::SourceFile;
use crate::new_folder::NewFolder;
use crate::output;
use crate::workers;

/// Maximum number of crops of a person, and from one video, whose frames are much alike.
const MOST_CROPS: usize = 12;
const MOST_OF_A_VIDEO: usize = 4;

/// Cosine to a better crop above which another one adds nothing.
const ALIKE: f32 = 0.97;

/// Shorter side of a face in pixels beyond which more pixels are no advantage: FaceNet's input is 160 pixels wide.
const LARGE: f32 = 160.0;

/// Suitability of a face with a mask relative to a bare one, of which enrolment makes masked copies.
const MASKED: f32 = 0.7;

/// Sides of a crop relative to the longer side of the face, the first of which in which no other face is as prominent. The
/// least contains what enrolment paints masks on.
const MARGINS: [f32; 4] = [3.0, 2.4, 1.9, 1.5];

/// Share of another face's width or height in a crop up to which it is not noticed as a face.
const UNNOTICED: f32 = 0.5;

/// Longest side of a crop in pixels; larger ones are scaled down.
const MOST_PIXELS: f32 = 800.0;

/// At this quality the embedding of a crop differs from that of the photo by less than that of the next frame of a video.
const JPEG_QUALITY: u8 = 95;

/// Longest part of a photo's name in the name of a crop, in characters.
const LONGEST_STEM: usize = 60;

/// A crop to write.
#[derive(Debug, Clone)]
struct Crop {
    folder: String,
    name: String,
    time: Option<Duration>,
    rotated: u16,
    /// In pixels of the upright photo.
    rect: Rect,
}

/// The name of a person without one.
pub fn folder_name(person: usize) -> String {
    format!("person-{:03}", person + 1)
}

/// The indices of the best faces of each person, best first.
pub fn best(faces: &[LocatedFace], fates: &[Fate], items: &[Item]) -> Vec<Vec<usize>> {
    let mut people: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, fate) in fates.iter().enumerate() {
        if let Fate::Person(person) = fate {
            people.entry(*person).or_default().push(i);
        }
    }
    let people = people.into_values();
    people
        .map(|mut members| {
            members.sort_by(|&a, &b| {
                suitability(&faces[b].face).total_cmp(&suitability(&faces[a].face))
            });
            choose(faces, &members, items)
        })
        .collect()
}

fn suitability(face: &FoundFace) -> f32 {
    let turned = face.portrait.measures.map_or(90.0, |measures| measures.yaw);
    let size = face.rect[2].min(face.rect[3]).min(LARGE);
    let mask = if face.is_masked { MASKED } else { 1.0 };
    size * turned.to_radians().cos().max(0.0) * mask
}

fn choose(faces: &[LocatedFace], members: &[usize], items: &[Item]) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    let mut of_video: HashMap<usize, usize> = HashMap::new();
    for &face in members {
        if chosen.len() == MOST_CROPS {
            break;
        }
        let file = faces[face].file;
        let is_video = matches!(items[file].source, SourceFile::Video(_));
        let count = of_video.entry(file).or_default();
        let is_alike = chosen
            .iter()
            .any(|&other| cosine(&faces[face], &faces[other]) > ALIKE);
        if is_alike || is_video && *count >= MOST_OF_A_VIDEO {
            continue;
        }
        *count += 1;
        chosen.push(face);
    }
    chosen
}

fn cosine(a: &LocatedFace, b: &LocatedFace) -> f32 {
    let both = a.face.embedding.as_ref().zip(b.face.embedding.as_ref());
    both.map_or(0.0, |(a, b)| a.0.dot(&b.0))
}

/// Writes the crops of these faces, a folder for each person, and returns how many were written. Files that cannot be read
/// any more are named and left out.
pub fn write(
    people: &[Vec<usize>],
    faces: &[LocatedFace],
    items: &[Item],
    jobs: usize,
    folder: &NewFolder,
) -> Result<usize> {
    let mut files: BTreeMap<usize, Vec<Crop>> = BTreeMap::new();
    for (person, chosen) in people.iter().enumerate() {
        for (number, &face) in chosen.iter().enumerate() {
            let crop = crop(faces, face, person, number, items);
            files.entry(faces[face].file).or_default().push(crop);
        }
    }
    let files: Vec<(usize, Vec<Crop>)> = files.into_iter().collect();
    let bar = output::progress("cropping", files.len());
    let mut written = 0;
    workers::in_order(
        &files,
        jobs,
        || Ok(()),
        |(), (file, crops)| cut(&items[*file].source, crops),
        |index, (jpegs, error)| {
            let (file, crops) = &files[index];
            for (crop, jpeg) in crops.iter().zip(&jpegs) {
                if let Some(jpeg) = jpeg {
                    folder.write(Path::new(&crop.folder), &crop.name, jpeg)?;
                    written += 1;
                }
            }
            if jpegs.iter().any(Option::is_none) {
                let path = items[*file].source.path().display();
                let reason = error.unwrap_or("it has changed meanwhile".to_owned());
                bar.suspend(|| {
                    output::warning(&format!("{path}: {reason}; not all crops are written"))
                });
            }
            bar.inc(1);
            Ok(())
        },
    )?;
    bar.finish_and_clear();
    Ok(written)
}

fn crop(faces: &[LocatedFace], face: usize, person: usize, number: usize, items: &[Item]) -> Crop {
    let own = &faces[face];
    // The faces of an image follow each other.
    let is_beside = |other: &&LocatedFace| other.image == own.image;
    let before = faces[..face].iter().rev().take_while(is_beside);
    let after = faces[face + 1..].iter().take_while(is_beside);
    let others: Vec<Rect> = before.chain(after).map(|other| other.face.rect()).collect();
    let stem = items[own.file]
        .source
        .path()
        .file_stem()
        .unwrap_or_default();
    let stem = output::plain(&stem.to_string_lossy());
    let stem: String = stem.chars().take(LONGEST_STEM).collect();
    let time = own
        .time
        .map_or(String::new(), |time| format!("-{:.2}s", time.as_secs_f64()));
    Crop {
        folder: folder_name(person),
        name: format!("{:02}-{stem}{time}.jpg", number + 1),
        time: own.time,
        rotated: own.face.portrait.rotated,
        rect: around(own.face.rect(), &others),
    }
}

/// The part of a photo to cut out for a face, which may extend beyond the photo.
fn around(face: Rect, others: &[Rect]) -> Rect {
    let side = face.width.max(face.height);
    let center = face.center();
    let square = |margin: f32| {
        let side = side * margin;
        Rect::new(center.x - side / 2.0, center.y - side / 2.0, side, side)
    };
    let is_clear = |part: &Rect| {
        others.iter().all(|other| {
            let seen = other.intersection(part);
            seen.width < other.width * UNNOTICED || seen.height < other.height * UNNOTICED
        })
    };
    let mut parts = MARGINS.into_iter().map(square);
    parts
        .find(is_clear)
        .unwrap_or_else(|| square(MARGINS[MARGINS.len() - 1]))
}

/// The crops of a file as JPEG files, None for those that are not to be had, and why the file cannot be read.
type CutFile = (Vec<Option<Vec<u8>>>, Option<String>);

/// Cuts all crops of a file.
fn cut(source: &SourceFile, crops: &[Crop]) -> Result<CutFile> {
    let mut jpegs = vec![None; crops.len()];
    let error = match source {
        SourceFile::Photo(path) => match DecodedPhoto::load(path) {
            Ok(photo) => {
                cut_image(&photo, None, crops, &mut jpegs)?;
                None
            }
            Err(error) => Some(error.to_string()),
        },
        SourceFile::Video(path) => {
            watch(path, |time, photo| {
                cut_image(photo, Some(time), crops, &mut jpegs)
            })?
            .1
        }
    };
    Ok((jpegs, error))
}

/// Cuts the crops of one photo or frame.
fn cut_image(
    photo: &DecodedPhoto,
    time: Option<Duration>,
    crops: &[Crop],
    jpegs: &mut [Option<Vec<u8>>],
) -> Result<()> {
    for (crop, jpeg) in crops.iter().zip(jpegs) {
        if crop.time == time {
            *jpeg = match crop.rotated / 90 {
                0 => jpeg_of(photo, crop.rect)?,
                quarters => jpeg_of(&photo.rotated(quarters), crop.rect)?,
            };
        }
    }
    Ok(())
}

/// A part of a photo as a JPEG; None if it is outside.
fn jpeg_of(photo: &DecodedPhoto, rect: Rect) -> Result<Option<Vec<u8>>> {
    let whole = Rect::new(0.0, 0.0, photo.width as f32, photo.height as f32);
    let part = rect.intersection(&whole);
    let (left, top) = (part.x.floor(), part.y.floor());
    let (width, height) = (part.right().ceil() - left, part.bottom().ceil() - top);
    if width < 1.0 || height < 1.0 {
        return Ok(None);
    }
    let scale = (MOST_PIXELS / width.max(height)).min(1.0);
    let [out_width, out_height] = [width, height].map(|side| (side * scale).round().max(1.0));
    let resize = Resize {
        source: Rect::new(left, top, width, height),
        width: out_width as usize,
        height: out_height as usize,
        filter: if scale < 1.0 {
            Filter::Area
        } else {
            Filter::Linear
        },
        border: Border::Black,
    };
    let mut pixels = Vec::new();
    Resizer::default().rgb8(&photo.view()?, &resize, &mut pixels);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode(
        &pixels,
        out_width as u32,
        out_height as u32,
        ExtendedColorType::Rgb8,
    )?;
    Ok(Some(bytes))
}

/// The results for the frames of a video, and why the rest could not be read.
#[cfg(feature = "plugin")]
pub(super) fn watch<R>(
    path: &Path,
    look: impl FnMut(Duration, &DecodedPhoto) -> Result<R>,
) -> Result<(Vec<R>, Option<String>)> {
    let watched = crate::input::video::watch(path, super::VIDEO_FRAMES, look)?;
    let results = watched.frames.into_iter().map(|(_, result)| result);
    let error = watched.error.map(|error| error.to_string());
    Ok((results.collect(), error))
}

#[cfg(not(feature = "plugin"))]
pub(super) fn watch<R>(
    path: &Path,
    _: impl FnMut(Duration, &DecodedPhoto) -> Result<R>,
) -> Result<(Vec<R>, Option<String>)> {
    let error = match std::fs::metadata(path) {
        Ok(_) => crate::input::error::PhotoError::NoGStreamer,
        Err(error) => error.into(),
    };
    Ok((Vec::new(), Some(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_is_as_wide_as_other_faces_allow() {
        let face = Rect::new(100.0, 100.0, 80.0, 100.0);
        assert_eq!(around(face, &[]).width, 300.0);
        assert_eq!(around(face, &[]).center(), face.center());
        // A face whose middle is 130 pixels beside this one's is cut off at half its width in a crop of 240 pixels.
        let beside = face.translated(130.0, 0.0);
        assert!((around(face, &[beside]).width - 240.0).abs() < 0.01);
        // One that overlaps cannot be avoided.
        let overlapping = face.translated(30.0, 0.0);
        assert_eq!(around(face, &[overlapping]).width, 150.0);
    }

    #[test]
    fn parts_beyond_the_photo_are_cut_off_and_large_ones_scaled_down() {
        let photo = DecodedPhoto::from_rgb(vec![90; 1200 * 900 * 3], 1200, 900);
        let size = |rect| {
            let jpeg = jpeg_of(&photo, rect).unwrap()?;
            let image = image::load_from_memory(&jpeg).unwrap();
            Some((image.width(), image.height()))
        };
        assert_eq!(size(Rect::new(-50.0, -20.0, 100.0, 100.0)), Some((50, 80)));
        assert_eq!(size(Rect::new(0.0, 0.0, 2000.0, 2000.0)), Some((800, 600)));
        assert_eq!(size(Rect::new(1300.0, 0.0, 50.0, 50.0)), None);
    }
}
