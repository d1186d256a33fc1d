//! `list`: lists the people of a gallery.

use std::process::ExitCode;

use anyhow::Result;
use gstmfr::gallery::Gallery;

use crate::options::ListOptions;
use crate::output::{Output, counted, plain};

pub fn run(options: &ListOptions) -> Result<ExitCode> {
    let gallery = Gallery::load(&options.database)?;
    let photos: Vec<_> = gallery.people().collect();
    let mut out = Output::stdout();
    if options.json {
        let list: Vec<_> = photos
            .iter()
            .map(|(name, photos)| serde_json::json!({"name": name, "photos": photos}))
            .collect();
        out.json(&serde_json::json!({ "people": list }))?;
    } else {
        for (name, count) in &photos {
            out.line(format_args!("{count:6}  {}", plain(name)))?;
        }
        let total = photos.iter().map(|(_, count)| count).sum();
        out.line(format_args!(
            "{}, {}",
            counted(photos.len(), "person"),
            counted(total, "photo")
        ))?;
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}
