//! Photos in formats that an installed program decodes: HEIC (iPhones), AVIF, JPEG 2000, JPEG XL. Their decoders are
//! large C libraries, so they run as separate processes with limits of time, memory and output.

use std::fs::Permissions;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use gstmfr::io::files::read_regular;
use thiserror::Error;

/// Limit of CPU time in seconds: 48 megapixels of HEIC take 10.
const CPU_SECONDS: u64 = 30;
/// Limit of elapsed time, twice the CPU time, for a computer under load.
const WALL_TIME: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// Limit of a converter's address space in bytes: 48 megapixels take 300 MB.
const MEMORY: u64 = 1_000_000_000;
/// Limit of the converted file in bytes: no PNG of 100 megapixels in 8-bit RGB is larger.
const OUTPUT: u64 = 320_000_000;
/// Number of bytes of a converter's messages that are shown.
const SHOWN: u64 = 300;

/// Why a photo could not be converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConverterError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{format} photos need the program {program}: apt install {package}")]
    Missing {
        format: &'static str,
        program: &'static str,
        package: &'static str,
    },
    #[error("{program} cannot read the {format} photo: {reason}")]
    Failed {
        program: &'static str,
        format: &'static str,
        reason: String,
    },
}

/// A format, and the programs that convert it to PNG.
#[derive(Debug)]
pub struct Converter {
    format: &'static str,
    /// Extension of the input file, by which converters determine its format.
    ending: &'static str,
    /// Programs in the order in which they are tried; newer versions of a package may have another one.
    programs: &'static [&'static str],
    arguments: fn(input: &str, output: &str) -> Vec<String>,
    package: &'static str,
}

fn in_out(input: &str, output: &str) -> Vec<String> {
    vec![input.to_owned(), output.to_owned()]
}

const HEIC: Converter = Converter {
    format: "HEIC",
    ending: "heic",
    programs: &["heif-convert", "heif-dec"],
    arguments: in_out,
    package: "libheif-examples",
};
const AVIF: Converter = Converter {
    format: "AVIF",
    ending: "avif",
    ..HEIC
};
const JPEG_2000: Converter = Converter {
    format: "JPEG 2000",
    ending: "jp2",
    programs: &["opj_decompress"],
    arguments: |input, output| ["-i", input, "-o", output].map(str::to_owned).to_vec(),
    package: "libopenjp2-tools",
};
const JPEG_2000_CODESTREAM: Converter = Converter {
    ending: "j2k",
    ..JPEG_2000
};
const JPEG_XL: Converter = Converter {
    format: "JPEG XL",
    ending: "jxl",
    programs: &["djxl"],
    arguments: in_out,
    package: "libjxl-tools",
};

impl Converter {
    /// The converter for the first bytes of a file; None for a format that needs no converter.
    pub fn of(bytes: &[u8]) -> Option<&'static Self> {
        if bytes.starts_with(b"\0\0\0\x0cjP  \r\n\x87\n") {
            return Some(&JPEG_2000);
        }
        if bytes.starts_with(b"\xff\x4f\xff\x51") {
            return Some(&JPEG_2000_CODESTREAM);
        }
        if bytes.starts_with(b"\0\0\0\x0cJXL \r\n\x87\n") || bytes.starts_with(b"\xff\x0a") {
            return Some(&JPEG_XL);
        }
        if bytes.get(4..8)? != b"ftyp" {
            return None;
        }
        // The box has the file's major brand, its version, and the compatible brands.
        let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        let brands = bytes.get(8..length.clamp(8, 256).min(bytes.len()))?;
        let brands = brands.as_chunks::<4>().0;
        let has = |names: &[&[u8; 4]]| brands.iter().any(|brand| names.contains(&brand));
        if has(&[b"avif", b"avis"]) {
            Some(&AVIF)
        } else if has(&[
            b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1",
        ]) {
            Some(&HEIC)
        } else {
            None
        }
    }

    /// Returns the photo as a PNG file, upright.
    pub fn convert(&self, bytes: &[u8]) -> Result<Vec<u8>, ConverterError> {
        // Photos are personal data, so the folder is readable by its owner only.
        let folder = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        let input = format!("photo.{}", self.ending);
        std::fs::write(folder.path().join(&input), bytes)?;
        let mut missing = None;
        for program in self.programs {
            let arguments = (self.arguments)(&input, "photo.png");
            match self.run(program, &arguments, folder.path()) {
                Err(error @ ConverterError::Missing { .. }) => missing = missing.or(Some(error)),
                Err(error) => return Err(error),
                Ok(()) => return self.output(program, folder.path()),
            }
        }
        Err(missing.unwrap_or_else(|| self.is_missing(self.programs[0])))
    }

    fn is_missing(&self, program: &'static str) -> ConverterError {
        ConverterError::Missing {
            format: self.format,
            program,
            package: self.package,
        }
    }

    fn failed(&self, program: &'static str, reason: impl Into<String>) -> ConverterError {
        ConverterError::Failed {
            program,
            format: self.format,
            reason: reason.into(),
        }
    }

    /// Runs a converter in a folder of its own, under the limits.
    fn run(
        &self,
        program: &'static str,
        arguments: &[String],
        folder: &Path,
    ) -> Result<(), ConverterError> {
        if !is_installed(program) {
            return Err(self.is_missing(program));
        }
        // prlimit is part of util-linux, which every Debian has.
        let mut command = Command::new("prlimit");
        command
            .arg(format!("--as={MEMORY}"))
            .arg(format!("--cpu={CPU_SECONDS}"))
            .arg(format!("--fsize={OUTPUT}"))
            .arg("--core=0")
            // English messages, because they may be shown.
            .env("LC_ALL", "C")
            .arg(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("errors"))?);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.failed("prlimit", "it is not installed"),
            _ => error.into(),
        })?;
        let status = wait(&mut child)?;
        if status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        let mut printed = String::new();
        let errors = std::fs::File::open(folder.join("errors"))?;
        // Messages that are not UTF-8 are not shown.
        let _ = errors.take(SHOWN).read_to_string(&mut printed);
        Err(self.failed(program, ended(status, printed.trim())))
    }

    fn output(&self, program: &'static str, folder: &Path) -> Result<Vec<u8>, ConverterError> {
        // A file with several images is converted to several files; the first one is used.
        let names = ["photo.png", "photo-1.png"];
        let path = names.map(|name| folder.join(name));
        match path.iter().find(|path| path.exists()) {
            Some(path) => Ok(read_regular(path, OUTPUT)?),
            None => Err(self.failed(program, "it wrote no image")),
        }
    }
}

/// Why a converter failed, in one line; a status of None means that it took too long.
fn ended(status: Option<ExitStatus>, printed: &str) -> String {
    let Some(status) = status else {
        return format!("it took more than {} s", WALL_TIME.as_secs());
    };
    let last = printed.lines().last().unwrap_or_default();
    match (status.signal(), last.is_empty()) {
        (Some(signal), _) => format!(
            "it was ended by signal {signal}; it may use {} MB and {CPU_SECONDS} s",
            MEMORY / 1_000_000
        ),
        (None, true) => format!("it ended with {status}"),
        (None, false) => last.to_owned(),
    }
}

/// Waits for a child process; kills it and returns None if it takes too long.
fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let begin = Instant::now();
    while begin.elapsed() < WALL_TIME {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(POLL);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        let file = |brands: &str| {
            let length = (8 + brands.len()) as u32;
            [&length.to_be_bytes(), b"ftyp".as_slice(), brands.as_bytes()].concat()
        };
        for (brands, format) in [
            ("heic\0\0\0\0mif1heic", Some("HEIC")),
            ("mif1\0\0\0\0mif1heic", Some("HEIC")),
            ("mif1\0\0\0\0mif1avif", Some("AVIF")),
            ("avif\0\0\0\0", Some("AVIF")),
            ("isom\0\0\0\0isommp41", None),
        ] {
            let found = Converter::of(&file(brands)).map(|c| c.format);
            assert_eq!(found, format, "{brands}");
        }
        // The box is longer than the file.
        let cut = &file("heic\0\0\0\0mif1heic")[..12];
        assert_eq!(Converter::of(cut).unwrap().format, "HEIC");
        for bytes in [b"".as_slice(), b"\0\0\0\x08ftyp", b"\x89PNG", b"\xff\xd8"] {
            assert!(Converter::of(bytes).is_none());
        }
    }

    const fn fake(program: &'static [&'static str]) -> Converter {
        Converter {
            programs: program,
            arguments: |_, _| Vec::new(),
            ..HEIC
        }
    }

    #[test]
    fn what_is_missing_fails_or_writes_nothing_is_an_error() {
        const MISSING: Converter = fake(&["no-such-converter", "nor-this"]);
        assert_eq!(
            MISSING.convert(b"").unwrap_err().to_string(),
            "HEIC photos need the program no-such-converter: apt install libheif-examples"
        );
        const FALSE: Converter = fake(&["no-such-converter", "false"]);
        assert_eq!(
            FALSE.convert(b"").unwrap_err().to_string(),
            "false cannot read the HEIC photo: it ended with exit status: 1"
        );
        const TRUE: Converter = fake(&["true"]);
        assert_eq!(
            TRUE.convert(b"").unwrap_err().to_string(),
            "true cannot read the HEIC photo: it wrote no image"
        );
    }

    #[test]
    fn a_converter_that_takes_too_much_is_ended() {
        const LOOP: Converter = Converter {
            programs: &["dd"],
            arguments: |_, _| {
                ["if=/dev/zero", "of=photo.png", "bs=1M", "status=none"]
                    .map(str::to_owned)
                    .to_vec()
            },
            ..HEIC
        };
        let error = LOOP.convert(b"").unwrap_err().to_string();
        assert!(error.contains("dd cannot read the HEIC photo"), "{error}");
        const LARGE: Converter = Converter {
            programs: &["dd"],
            arguments: |_, _| {
                ["if=/dev/zero", "of=photo.png", "bs=2G"]
                    .map(str::to_owned)
                    .to_vec()
            },
            ..HEIC
        };
        let error = LARGE.convert(b"").unwrap_err().to_string();
        assert!(error.contains("memory"), "{error}");
    }
}
