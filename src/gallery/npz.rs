//! Arrays in a zip file as numpy writes them: `.npz`, without pickles.
//!
//! ndarray-npy reads and writes the numbers; it knows no text (`<U`), and trusts the shape that a
//! file states. Here a file is believed only as far as its bytes go: an array is unpacked up to a
//! limit, and its header must promise as many bytes as there are, before anything is allocated by
//! what it says.

use std::io::{Read, Seek, SeekFrom, Write};

use ndarray::{Array, Array1, Dimension};
use ndarray_npy::{ReadNpyExt, ReadableElement, WritableElement, WriteNpyExt};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::GalleryError;

/// Bytes of one unpacked array: half a million embeddings of 512 numbers.
const MAX_ARRAY_BYTES: u64 = 1 << 30;

/// Arrays in a file; a gallery has ten.
const MAX_MEMBERS: u16 = 1000;

/// The longest header that numpy itself reads by default.
const MAX_HEADER_BYTES: usize = 10_000;

const MAGIC: &[u8] = b"\x93NUMPY";

/// An npz file that is being read.
pub struct NpzReader<R> {
    archive: ZipArchive<R>,
}

impl<R: Read + Seek> NpzReader<R> {
    pub fn new(mut reader: R) -> Result<Self, GalleryError> {
        check_end(&mut reader)?;
        let archive = ZipArchive::new(reader)
            .map_err(|e| GalleryError::format(format!("a file that is no zip archive ({e})")))?;
        Ok(Self { archive })
    }

    pub fn contains(&self, name: &str) -> bool {
        self.archive.index_for_name(&file_name(name)).is_some()
    }

    /// Names of the arrays, for messages.
    pub fn names(&self) -> Vec<String> {
        let names = self.archive.file_names();
        names
            .map(|n| n.trim_end_matches(".npy").to_owned())
            .collect()
    }

    /// The array of this name, not yet interpreted.
    pub fn array(&mut self, name: &str) -> Result<RawArray, GalleryError> {
        let damaged = |e: String| GalleryError::contents(format!("array {name}: {e}"));
        let file = self
            .archive
            .by_name(&file_name(name))
            .map_err(|e| damaged(e.to_string()))?;
        let mut bytes = Vec::new();
        file.take(MAX_ARRAY_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| damaged(e.to_string()))?;
        if bytes.len() as u64 > MAX_ARRAY_BYTES {
            return Err(damaged(format!("more than {MAX_ARRAY_BYTES} bytes")));
        }
        RawArray::parse(name, bytes)
    }
}

/// A zip file ends with a record that counts its members, for which the zip crate makes room before
/// it has seen one of them. No gallery has many, or the record for large files.
fn check_end(reader: &mut (impl Read + Seek)) -> Result<(), GalleryError> {
    let failed =
        |e: std::io::Error| GalleryError::format(format!("a file that cannot be read: {e}"));
    let length = reader.seek(SeekFrom::End(0)).map_err(failed)?;
    // The record may be followed by a comment of up to 64 KiB.
    reader
        .seek(SeekFrom::Start(length.saturating_sub(65_557)))
        .map_err(failed)?;
    let mut end = Vec::new();
    reader.read_to_end(&mut end).map_err(failed)?;
    reader.rewind().map_err(failed)?;
    let records = end.windows(20).filter(|w| w.starts_with(b"PK\x05\x06"));
    for record in records {
        let members = u16::from_le_bytes([record[10], record[11]]);
        if members > MAX_MEMBERS || record[16..20] == [0xff; 4] {
            return Err(GalleryError::format(format!(
                "an archive of {members} files"
            )));
        }
    }
    Ok(())
}

fn file_name(array: &str) -> String {
    format!("{array}.npy")
}

/// An array whose header fits its bytes.
#[derive(Debug)]
pub struct RawArray {
    name: String,
    /// numpy's type string: byte order, kind, size.
    descr: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
    /// Where the values start in `bytes`.
    data: usize,
}

impl RawArray {
    fn parse(name: &str, bytes: Vec<u8>) -> Result<Self, GalleryError> {
        let fail = |text: String| Err(GalleryError::contents(format!("array {name}: {text}")));
        let Some((header, data)) = header(&bytes) else {
            return fail(
                "expected a numpy array (.npy), found other bytes or half a header".into(),
            );
        };
        let (Some(descr), Some(shape)) = (descr_of(header), shape_of(header)) else {
            // What pickled and structured arrays have for a type is no plain string.
            return fail(format!(
                "expected an array of numbers or text, its header is {}",
                header.trim()
            ));
        };
        let mut array = Self {
            name: name.to_owned(),
            descr,
            shape,
            bytes: Vec::new(),
            data,
        };
        let found = bytes.len() - data;
        let promised = array
            .item_size()
            .and_then(|size| array.shape.iter().try_fold(size, |n, &d| n.checked_mul(d)));
        array.bytes = bytes;
        match promised {
            Some(promised) if promised == found => Ok(array),
            Some(promised) => fail(format!(
                "shape {:?} of {} needs {promised} bytes, found {found}",
                array.shape, array.descr
            )),
            None => fail(format!(
                "type {} and shape {:?} are not supported",
                array.descr, array.shape
            )),
        }
    }

    /// Bytes of one value; None for types that no gallery has.
    fn item_size(&self) -> Option<usize> {
        let (kind, size) = self.descr.get(1..)?.split_at_checked(1)?;
        let size: usize = size.parse().ok()?;
        match kind {
            "f" | "i" | "u" if size <= 8 => Some(size),
            "U" => size.checked_mul(4),
            _ => None,
        }
    }

    fn unexpected(&self, expected: &str) -> GalleryError {
        GalleryError::contents(format!(
            "array {}: expected {expected}, found {} of shape {:?}",
            self.name, self.descr, self.shape
        ))
    }

    fn read<T: ReadableElement, D: Dimension>(
        &self,
        expected: &str,
    ) -> Result<Array<T, D>, GalleryError> {
        Array::read_npy(&self.bytes[..]).map_err(|e| {
            GalleryError::contents(format!(
                "array {}: expected {expected}, found {} of shape {:?} ({e})",
                self.name, self.descr, self.shape
            ))
        })
    }

    /// Floating-point numbers of single or double precision.
    pub fn floats<D: Dimension>(&self, expected: &str) -> Result<Array<f32, D>, GalleryError> {
        match self.descr.as_str() {
            "<f4" | ">f4" => self.read(expected),
            "<f8" | ">f8" => Ok(self.read::<f64, D>(expected)?.mapv(|v| v as f32)),
            _ => Err(self.unexpected(expected)),
        }
    }

    /// Whole numbers of any size.
    pub fn integers(&self, expected: &str) -> Result<Vec<i64>, GalleryError> {
        macro_rules! read {
            ($t:ty) => {
                self.read::<$t, ndarray::Ix1>(expected)?
                    .mapv(|v| i64::try_from(v).unwrap_or(i64::MAX))
                    .to_vec()
            };
        }
        Ok(match self.descr.get(1..) {
            Some("i1") => read!(i8),
            Some("u1") => read!(u8),
            Some("i2") => read!(i16),
            Some("u2") => read!(u16),
            Some("i4") => read!(i32),
            Some("u4") => read!(u32),
            Some("i8") => read!(i64),
            Some("u8") => read!(u64),
            _ => return Err(self.unexpected(expected)),
        })
    }

    /// Text, as numpy's `<U` holds it: four bytes a character, filled up with zeros.
    pub fn texts(&self, expected: &str) -> Result<Vec<String>, GalleryError> {
        let (Some(size), [count]) = (self.item_size(), &self.shape[..]) else {
            return Err(self.unexpected(expected));
        };
        let big_endian = self.descr.starts_with('>');
        if self.descr.get(1..2) != Some("U") {
            return Err(self.unexpected(expected));
        }
        if size == 0 {
            return Ok(vec![String::new(); *count]);
        }
        self.bytes[self.data..]
            .chunks_exact(size)
            .map(|text| {
                let characters = text.chunks_exact(4).map(|c| {
                    let c = [c[0], c[1], c[2], c[3]];
                    if big_endian {
                        u32::from_be_bytes(c)
                    } else {
                        u32::from_le_bytes(c)
                    }
                });
                let text: Option<String> = characters.map(char::from_u32).collect();
                let text = text.map(|t| t.trim_end_matches('\0').to_owned());
                text.ok_or_else(|| {
                    GalleryError::contents(format!("array {}: text that is not Unicode", self.name))
                })
            })
            .collect()
    }
}

/// The header as text and where the values start.
fn header(bytes: &[u8]) -> Option<(&str, usize)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, start) = match rest.first()? {
        1 => (
            usize::from(u16::from_le_bytes(rest.get(2..4)?.try_into().ok()?)),
            10,
        ),
        2 | 3 => (
            u32::from_le_bytes(rest.get(2..6)?.try_into().ok()?) as usize,
            12,
        ),
        _ => return None,
    };
    if length > MAX_HEADER_BYTES {
        return None;
    }
    let end = start + length;
    let header = std::str::from_utf8(bytes.get(start..end)?).ok()?;
    // One dictionary, one tuple. ndarray-npy's parser calls itself for every bracket in a bracket,
    // as deep as a hostile file likes.
    let brackets = header.matches(['(', '[', '{']).count();
    (brackets <= 2).then_some((header, end))
}

/// The text after `'key':` in the header's Python dictionary.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}'"))?;
    rest.trim_start().strip_prefix(':').map(str::trim_start)
}

fn descr_of(header: &str) -> Option<String> {
    let rest = value(header, "descr")?.strip_prefix('\'')?;
    let (descr, _) = rest.split_once('\'')?;
    let plain =
        descr.len() >= 3 && descr.is_ascii() && matches!(&descr[..1], "<" | ">" | "|" | "=");
    plain.then(|| descr.to_owned())
}

fn shape_of(header: &str) -> Option<Vec<usize>> {
    let rest = value(header, "shape")?.strip_prefix('(')?;
    let (shape, _) = rest.split_once(')')?;
    shape
        .split(',')
        .map(str::trim)
        .filter(|d| !d.is_empty())
        .map(|d| d.parse().ok())
        .collect()
}

/// An npz file that is being written.
pub struct NpzWriter<W: Write + Seek> {
    zip: ZipWriter<W>,
}

impl<W: Write + Seek> NpzWriter<W> {
    pub fn new(writer: W) -> Self {
        Self {
            zip: ZipWriter::new(writer),
        }
    }

    fn start(&mut self, name: &str) -> std::io::Result<()> {
        // Embeddings do not compress; stored ones can be mapped into memory. The time of writing
        // is left out: same contents, same bytes.
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default())
            .large_file(true);
        Ok(self.zip.start_file(file_name(name), options)?)
    }

    /// An array of numbers.
    pub fn numbers<T: WritableElement, D: Dimension>(
        &mut self,
        name: &str,
        array: &Array<T, D>,
    ) -> std::io::Result<()> {
        self.start(name)?;
        array
            .write_npy(&mut self.zip)
            .map_err(std::io::Error::other)
    }

    /// Bytes of this shape, given in pieces: what is large need not lie in memory twice.
    pub fn bytes<'a>(
        &mut self,
        name: &str,
        shape: &[usize],
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> std::io::Result<()> {
        self.start(name)?;
        self.header("|u1", shape)?;
        for piece in pieces {
            self.zip.write_all(piece)?;
        }
        Ok(())
    }

    /// Magic, version 1.0 and what follows.
    fn header(&mut self, kind: &str, shape: &[usize]) -> std::io::Result<()> {
        let lengths: String = shape.iter().map(|length| format!("{length},")).collect();
        let mut header =
            format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({lengths}), }}");
        // The values start at a multiple of 64, after magic, version, length and a line end.
        while (header.len() + 11) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let length = u16::try_from(header.len()).map_err(std::io::Error::other)?;
        self.zip.write_all(MAGIC)?;
        self.zip.write_all(&[1, 0])?;
        self.zip.write_all(&length.to_le_bytes())?;
        self.zip.write_all(header.as_bytes())
    }

    /// A list of texts, `<U` in numpy's words: UTF-32, padded with zeros.
    pub fn texts<S: AsRef<str>>(&mut self, name: &str, texts: &[S]) -> std::io::Result<()> {
        self.start(name)?;
        // numpy has no text of no characters.
        let longest = texts.iter().map(|t| t.as_ref().chars().count()).max();
        let width = longest.unwrap_or(0).max(1);
        self.header(&format!("<U{width}"), &[texts.len()])?;
        let mut bytes = Vec::with_capacity(width * 4);
        for text in texts {
            bytes.clear();
            bytes.extend(
                text.as_ref()
                    .chars()
                    .flat_map(|c| u32::from(c).to_le_bytes()),
            );
            bytes.resize(width * 4, 0);
            self.zip.write_all(&bytes)?;
        }
        Ok(())
    }

    /// Writes the directory of the archive.
    pub fn finish(self) -> std::io::Result<W> {
        Ok(self.zip.finish()?)
    }
}

/// A list as an array.
pub fn column<T: Copy>(values: &[T]) -> Array1<T> {
    Array1::from(values.to_vec())
}
