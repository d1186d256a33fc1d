//! Arguments of the commands that find people in unsorted photos, and exchange galleries with other programs.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use super::{MinFace, VisionArgs, vision};
use crate::input::peers::Program;
use crate::options::{self, EmbeddingFormat, ImportFormat};

#[derive(Debug, Args)]
pub struct DiscoverArgs {
    /// Photos, videos, or folders of them
    #[arg(required = true, value_name = "PHOTO|VIDEO|DIR")]
    inputs: Vec<PathBuf>,
    /// Folder to make, with a folder of crops for each person: person-001, person-002 …; it must be new or empty
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Gallery of the people who are known already; their faces are set aside
    #[arg(long, value_name = "FILE.npz")]
    database: Option<PathBuf>,
    /// Process every file again, including those that an interrupted run with the same options has
    /// processed and kept in DIR.partial
    #[arg(long)]
    fresh: bool,
    /// Write an HTML page with all faces
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// One JSON object per face and line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    vision: VisionArgs,
}

/// The options of `discover`.
pub fn discover(args: DiscoverArgs) -> Result<options::DiscoverOptions> {
    // Without a slash at the end, so that the files beside the folder can be named after it.
    let output: PathBuf = args.output.components().collect();
    ensure!(
        output.file_name().is_some(),
        "--output {} is no name of a folder to make",
        args.output.display()
    );
    Ok(options::DiscoverOptions {
        inputs: args.inputs,
        output,
        database: args.database,
        fresh: args.fresh,
        report: args.report,
        json: args.json,
        vision: vision(args.vision, MinFace::Relative),
    })
}

/// Formats that are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum ExportTo {
    /// One file with the embeddings as text
    Json,
    /// The folder of DL Streamer: gallery.json and .tensor files
    #[value(name = "dlstreamer")]
    DlStreamer,
    /// The JSON file of Hailo's TAPPAS
    Hailo,
    /// The embedd.npz of the original scripts
    Npz,
}

/// Formats that are read.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum ImportFrom {
    /// Of mfr-enroll export, or an object of names with embeddings
    Json,
    /// The folder of DL Streamer, or its gallery.json
    #[value(name = "dlstreamer")]
    DlStreamer,
    /// The JSON file of Hailo's TAPPAS
    Hailo,
    /// The embedd.npz of the original scripts
    Npz,
    /// Photos that are named after their people
    FaceRecognition,
    /// The folder faces of Frigate, with a folder of photos for each person
    Frigate,
    /// Photos of CompreFace: a folder for each subject, or faces.json with photos that are named by their id
    #[value(name = "compreface")]
    CompreFace,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The gallery
    #[arg(long, value_name = "FILE.npz")]
    database: PathBuf,
    /// The format to write
    #[arg(long, value_enum)]
    format: ExportTo,
    /// The file to write; for dlstreamer a folder, which must be new or empty
    #[arg(long, value_name = "PATH")]
    output: PathBuf,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The format to read
    #[arg(long, value_enum)]
    format: ImportFrom,
    /// The file or folder to read
    #[arg(long, value_name = "PATH")]
    input: PathBuf,
    /// The gallery to add to; it is made if there is none
    #[arg(long, value_name = "FILE.npz")]
    output: PathBuf,
    /// Take embeddings that do not say which network and crop they were made with as those of this network
    #[arg(long)]
    trust_embeddings: bool,
    #[command(flatten)]
    vision: VisionArgs,
}

/// The options of `export`.
pub fn export(args: ExportArgs) -> options::ExportOptions {
    options::ExportOptions {
        database: args.database,
        format: match args.format {
            ExportTo::Json => EmbeddingFormat::Json,
            ExportTo::DlStreamer => EmbeddingFormat::DlStreamer,
            ExportTo::Hailo => EmbeddingFormat::Hailo,
            ExportTo::Npz => EmbeddingFormat::Npz,
        },
        // Without a slash at the end, as for discover.
        output: args.output.components().collect(),
    }
}

/// The options of `import`.
pub fn import(args: ImportArgs) -> options::ImportOptions {
    options::ImportOptions {
        input: args.input,
        format: match args.format {
            ImportFrom::Json => ImportFormat::Embeddings(EmbeddingFormat::Json),
            ImportFrom::DlStreamer => ImportFormat::Embeddings(EmbeddingFormat::DlStreamer),
            ImportFrom::Hailo => ImportFormat::Embeddings(EmbeddingFormat::Hailo),
            ImportFrom::Npz => ImportFormat::Embeddings(EmbeddingFormat::Npz),
            ImportFrom::FaceRecognition => ImportFormat::Photos(Program::FaceRecognition),
            ImportFrom::Frigate => ImportFormat::Photos(Program::Frigate),
            ImportFrom::CompreFace => ImportFormat::Photos(Program::CompreFace),
        },
        output: args.output,
        trust_embeddings: args.trust_embeddings,
        vision: vision(args.vision, MinFace::Relative),
    }
}
