//! Arguments of the commands that find people in unsorted photos.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use super::{MinFace, VisionArgs, vision};
use crate::options;

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
