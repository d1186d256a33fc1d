//! Arrays in a zip file as numpy writes them: `.npz`, without pickles.
//!
//! ndarray-npy reads and writes numeric arrays, but does not support text (`<U`) and trusts the shape
//! that a file states. This module trusts a file only as far as its bytes go: the memory that its arrays
//! take, decompressed and converted, is counted before it is allocated and limited for the file as a whole.

use std::io::{Read, Seek, SeekFrom, Write};

use ndarray::{Array, Array1, Dimension};
use ndarray_npy::{ReadNpyExt, ReadableElement, WritableElement, WriteNpyExt};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::GalleryError;
use crate::io::text;

/// Limit of the memory, in bytes, that reading a file may take, as a multiple of the file's size, because numeric
/// arrays hardly compress. The two limits below bound it for small and for large files. 1,000,000 embeddings of 512 numbers
/// take 2 GiB; what is left is for names and sources, each of up to 80 characters on average.
const BUDGET_FACTOR: u64 = 8;
const LEAST_BUDGET: u64 = 64 << 20;
pub const MOST_BUDGET: u64 = 4 << 30;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Bytes of a text besides its characters: the `String` and the allocator's overhead.
const TEXT_OVERHEAD: u64 = 40;

/// Maximum number of arrays in a file; a gallery has ten.
const MAX_MEMBERS: u16 = 1000;

/// The longest header that numpy itself reads by default.
const MAX_HEADER_BYTES: usize = 10_000;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Maximum number of array names that a message lists, and maximum number of characters of each.
const NAMES_IN_MESSAGE: usize = 12;
const NAME_IN_MESSAGE: usize = 40;

/// An npz file that is being read.
pub struct NpzReader<R> {
    archive: ZipArchive<R>,
    /// Bytes of memory that may still be allocated.
    budget: u64,
}

impl<R: Read + Seek> NpzReader<R> {
    pub fn new(mut reader: R) -> Result<Self, GalleryError> {
        let length = check_end(&mut reader)?;
        let archive = ZipArchive::new(reader)
            .map_err(|e| GalleryError::format(format!("a file that is no zip archive ({e})")))?;
        let budget = length.saturating_mul(BUDGET_FACTOR);
        Ok(Self {
            archive,
            budget: budget.saturating_add(LEAST_BUDGET).min(MOST_BUDGET),
        })
    }

    pub fn contains(&self, name: &str) -> bool {
        self.archive.index_for_name(&file_name(name)).is_some()
    }

    /// Names of the first arrays, for messages, without control characters that could affect a terminal.
    pub fn names(&self) -> Vec<String> {
        let names = self.archive.file_names().take(NAMES_IN_MESSAGE);
        let short = |name: &str| -> String {
            let name = name.trim_end_matches(".npy");
            name.chars().take(NAME_IN_MESSAGE).collect()
        };
        names.map(|name| text::printable(&short(name))).collect()
    }

    /// Subtracts memory from the budget before it is allocated.
    fn charge(&mut self, name: &str, bytes: Option<u64>) -> Result<(), GalleryError> {
        let left = bytes.and_then(|bytes| self.budget.checked_sub(bytes));
        self.budget = left.ok_or_else(|| {
            let bytes = bytes.map_or_else(|| "more than 2^64".to_owned(), |b| b.to_string());
            GalleryError::contents(format!(
                "array {name}: needs {bytes} bytes of memory, and of what a file of this size may take {} are left",
                self.budget
            ))
        })?;
        Ok(())
    }

    /// The shape of the array of this name, of which only the header is read.
    pub fn shape(&mut self, name: &str) -> Result<Vec<usize>, GalleryError> {
        Ok(self.header(name)?.shape)
    }

    /// The array of this name without its values.
    fn header(&mut self, name: &str) -> Result<RawArray, GalleryError> {
        let damaged = |e: String| GalleryError::contents(format!("array {name}: {e}"));
        let mut file = self
            .archive
            .by_name(&file_name(name))
            .map_err(|e| damaged(e.to_string()))?;
        let mut bytes = Vec::new();
        let longest_header = MAX_HEADER_BYTES as u64 + 12;
        (&mut file)
            .take(longest_header)
            .read_to_end(&mut bytes)
            .map_err(|e| damaged(e.to_string()))?;
        RawArray::parse(name, &bytes)
    }

    /// The array of this name, with its values not yet decoded.
    pub fn array(&mut self, name: &str) -> Result<RawArray, GalleryError> {
        let damaged = |e: String| GalleryError::contents(format!("array {name}: {e}"));
        let header = self.header(name)?;
        self.charge(name, Some(header.size as u64))?;
        // The member is opened a second time, because `charge` cannot borrow `self` while the first reader exists.
        let mut file = self
            .archive
            .by_name(&file_name(name))
            .map_err(|e| damaged(e.to_string()))?;
        let whole = header.data + header.size;
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(whole + 1)
            .map_err(|e| damaged(e.to_string()))?;
        (&mut file)
            .take(whole as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| damaged(e.to_string()))?;
        header.with_bytes(bytes)
    }

    /// Floating-point numbers of single or double precision.
    pub fn floats<D: Dimension>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Array<f32, D>, GalleryError> {
        let header = self.header(name)?;
        if header.is_plain_f32 && D::NDIM == Some(header.shape.len()) {
            return self.plain_floats(header, expected);
        }
        let array = self.array(name)?;
        // 12 bytes per value: up to 8 as stored in the file, and 4 as single precision.
        let bytes = array.count().checked_mul(12);
        self.charge(name, bytes)?;
        array.floats(expected)
    }

    /// Numbers that are stored as they are in memory, which are read without a copy: embeddings are by far the largest array.
    fn plain_floats<D: Dimension>(
        &mut self,
        header: RawArray,
        expected: &str,
    ) -> Result<Array<f32, D>, GalleryError> {
        let name = header.name.as_str();
        let damaged = |e: String| GalleryError::contents(format!("array {name}: {e}"));
        self.charge(name, Some(header.size as u64))?;
        let mut file = self
            .archive
            .by_name(&file_name(name))
            .map_err(|e| damaged(e.to_string()))?;
        let mut values: Vec<f32> = Vec::new();
        values
            .try_reserve_exact(header.size / 4)
            .map_err(|e| damaged(e.to_string()))?;
        let mut skipped = vec![0; header.data];
        file.read_exact(&mut skipped)
            .map_err(|e| damaged(e.to_string()))?;
        let mut piece = vec![0u8; PIECE];
        let mut found = 0;
        // Reading up to the end checks the sum of the file as well.
        loop {
            let read = read_full(&mut file, &mut piece).map_err(|e| damaged(e.to_string()))?;
            found += read;
            if read == 0 || found > header.size {
                break;
            }
            let words = piece[..read].as_chunks::<4>().0.iter();
            values.extend(words.map(|&bytes| f32::from_le_bytes(bytes)));
        }
        if found != header.size {
            return Err(header.wrong_size(found));
        }
        let mut shape = D::zeros(header.shape.len());
        for (axis, &length) in header.shape.iter().enumerate() {
            shape[axis] = length;
        }
        Array::from_shape_vec(shape, values).map_err(|_| header.unexpected(expected))
    }

    /// Integers of any size as indices; a negative one becomes an index that is certainly out of range.
    pub fn indices(
        &mut self,
        array: &RawArray,
        expected: &str,
    ) -> Result<Vec<usize>, GalleryError> {
        self.charge(&array.name, array.count().checked_mul(24))?;
        let indices = array.integers(expected)?.into_iter();
        Ok(indices
            .map(|i| usize::try_from(i).unwrap_or(usize::MAX))
            .collect())
    }

    /// A list of small integers; a value that does not fit a byte becomes 255.
    pub fn bytes(&mut self, array: &RawArray, expected: &str) -> Result<Vec<u8>, GalleryError> {
        if let Some("u1") = array.descr.get(1..) {
            self.charge(&array.name, Some(array.count()))?;
            return array.bytes(expected);
        }
        self.charge(&array.name, array.count().checked_mul(24))?;
        let numbers = array.integers(expected)?.into_iter();
        Ok(numbers
            .map(|n| u8::try_from(n).unwrap_or(u8::MAX))
            .collect())
    }

    /// A list of texts.
    pub fn texts(&mut self, array: &RawArray, expected: &str) -> Result<Vec<String>, GalleryError> {
        let each = array.item_size().map(|size| size as u64 + TEXT_OVERHEAD);
        let all = each.and_then(|each| array.count().checked_mul(each));
        // Charged twice, because names of people are copied for sorting and comparison.
        self.charge(&array.name, all.and_then(|all| all.checked_mul(2)))?;
        array.texts(expected)
    }

    /// A list of `count` equal values, the default for an array that a file lacks.
    pub fn repeated<T: Clone>(
        &mut self,
        name: &str,
        value: T,
        count: usize,
    ) -> Result<Vec<T>, GalleryError> {
        let bytes = (count as u64).checked_mul(size_of::<T>() as u64);
        self.charge(name, bytes)?;
        Ok(vec![value; count])
    }
}

/// Bytes of memory that are charged for reading these texts.
pub fn cost_of_texts(texts: &[String]) -> u64 {
    let longest = texts.iter().map(|text| text.chars().count()).max();
    let stored = 4 * longest.unwrap_or(0).max(1) as u64;
    texts.len() as u64 * (3 * stored + 2 * TEXT_OVERHEAD)
}

/// Checks the end-of-central-directory record and returns the length of the file. The zip crate allocates room for as
/// many members as the record states before it has read one of them; no gallery has many, or needs the zip64 record.
fn check_end(reader: &mut (impl Read + Seek)) -> Result<u64, GalleryError> {
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
        if members > MAX_MEMBERS {
            return Err(GalleryError::format(format!(
                "an archive of {members} files"
            )));
        }
        if record[16..20] == [0xff; 4] {
            return Err(GalleryError::format(
                "an archive of 4 GiB and more, which is more than a gallery may have".into(),
            ));
        }
    }
    Ok(length)
}

/// Fills the buffer unless the reader ends before; returns the number of bytes read.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn file_name(array: &str) -> String {
    format!("{array}.npy")
}

/// An array whose header is consistent with its number of bytes.
#[derive(Debug)]
pub struct RawArray {
    name: String,
    /// numpy's type string: byte order, kind, size.
    descr: String,
    shape: Vec<usize>,
    /// Little-endian single precision, row by row.
    is_plain_f32: bool,
    bytes: Vec<u8>,
    /// Offset of the values in `bytes`, and their size in bytes.
    data: usize,
    size: usize,
}

impl RawArray {
    /// Parses the header at the start of the bytes.
    fn parse(name: &str, bytes: &[u8]) -> Result<Self, GalleryError> {
        let fail = |text: String| Err(GalleryError::contents(format!("array {name}: {text}")));
        let Some((header, data)) = header(bytes) else {
            return fail(
                "expected a numpy array (.npy), found other bytes or half a header".into(),
            );
        };
        let (Some(descr), Some(shape)) = (descr_of(header), shape_of(header)) else {
            // Pickled and structured arrays have a type that is not a plain string.
            let header: String = header.trim().chars().take(200).collect();
            return fail(format!(
                "expected an array of numbers or text, its header is {}",
                text::printable(&header)
            ));
        };
        // Exactly as numpy writes it: any other header is left to the parser of ndarray-npy.
        let lengths: Vec<String> = shape.iter().map(usize::to_string).collect();
        let plain = format!(
            "{{'descr':'<f4','fortran_order':False,'shape':({})}}",
            lengths.join(",")
        );
        let found: String = header.chars().filter(|c| *c != ' ' && *c != '\n').collect();
        let mut array = Self {
            name: name.to_owned(),
            is_plain_f32: found.replace(",)", ")").replace(",}", "}") == plain,
            descr,
            shape,
            bytes: Vec::new(),
            data,
            size: 0,
        };
        // An array without rows may have columns. With rows, values of zero bytes and rows without values would cost
        // nothing in the file but much in memory.
        let is_empty = array.shape.first() == Some(&0);
        let is_hollow = array.item_size() == Some(0) || array.shape.contains(&0);
        let size = array
            .item_size()
            .and_then(|size| array.shape.iter().try_fold(size, |n, &d| n.checked_mul(d)));
        match size {
            Some(size) if is_empty || !is_hollow => {
                array.size = size;
                Ok(array)
            }
            _ => fail(format!(
                "type {} and shape {:?} are not supported",
                array.descr, array.shape
            )),
        }
    }

    /// The array with its bytes, header included, if their number fits the header.
    fn with_bytes(self, bytes: Vec<u8>) -> Result<Self, GalleryError> {
        let found = bytes.len().saturating_sub(self.data);
        if found == self.size {
            return Ok(Self { bytes, ..self });
        }
        Err(self.wrong_size(found))
    }

    fn wrong_size(&self, found: usize) -> GalleryError {
        let found = match found > self.size {
            true => "more".to_owned(),
            false => found.to_string(),
        };
        GalleryError::contents(format!(
            "array {}: shape {:?} of {} needs {} bytes, found {found}",
            self.name, self.shape, self.descr, self.size
        ))
    }

    /// Number of values.
    fn count(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }

    /// Bytes of one value; None for types that galleries do not use.
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

    fn floats<D: Dimension>(&self, expected: &str) -> Result<Array<f32, D>, GalleryError> {
        match self.descr.as_str() {
            "<f4" | ">f4" => self.read(expected),
            "<f8" | ">f8" => Ok(self.read::<f64, D>(expected)?.mapv(|v| v as f32)),
            _ => Err(self.unexpected(expected)),
        }
    }

    /// A list of bytes, of type u1.
    fn bytes(&self, expected: &str) -> Result<Vec<u8>, GalleryError> {
        match self.shape[..] {
            [_] => Ok(self.bytes[self.data..].to_vec()),
            _ => Err(self.unexpected(expected)),
        }
    }

    /// The values of an array of bytes of this shape.
    pub fn into_bytes(mut self, shape: &[usize]) -> Result<Vec<u8>, GalleryError> {
        if self.descr.get(1..) != Some("u1") || self.shape != shape {
            return Err(self.unexpected(&format!("uint8 of shape {shape:?}")));
        }
        self.bytes.drain(..self.data);
        Ok(self.bytes)
    }

    /// Integers of any size.
    fn integers(&self, expected: &str) -> Result<Vec<i64>, GalleryError> {
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

    /// Text in numpy's `<U` format: four bytes per character, padded with zeros.
    fn texts(&self, expected: &str) -> Result<Vec<String>, GalleryError> {
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

/// The header as text, and the offset of the values.
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
    // A valid header has one dictionary and one tuple. ndarray-npy's parser recurses for each nested bracket, so a
    // hostile file could otherwise nest them as deep as it likes.
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
        // Embeddings do not compress, and stored arrays can be memory-mapped. The modification time is
        // omitted so that the same contents result in the same bytes.
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

    /// Bytes of this shape, passed in pieces so that large data need not be in memory twice.
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

    /// Writes the magic, version 1.0 and the header text.
    fn header(&mut self, kind: &str, shape: &[usize]) -> std::io::Result<()> {
        let lengths: String = shape.iter().map(|length| format!("{length},")).collect();
        let mut header =
            format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({lengths}), }}");
        // numpy aligns the values to a multiple of 64 bytes, counting magic, version, length and newline.
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

    /// A list of texts as numpy's `<U`: UTF-32, padded with zeros.
    pub fn texts<S: AsRef<str>>(&mut self, name: &str, texts: &[S]) -> std::io::Result<()> {
        self.start(name)?;
        // numpy has no text type of zero characters.
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

    /// Writes the archive's central directory.
    pub fn finish(self) -> std::io::Result<W> {
        Ok(self.zip.finish()?)
    }
}

/// A slice as a one-dimensional array.
pub fn column<T: Copy>(values: &[T]) -> Array1<T> {
    Array1::from(values.to_vec())
}
