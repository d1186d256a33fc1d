//! `list`: the people of a gallery.

use std::process::ExitCode;

use anyhow::Result;

use crate::options::List;
use crate::output::{Output, counted, plain};
use crate::people::People;

pub fn run(options: &List) -> Result<ExitCode> {
    let people = People::open(&options.database, None)?;
    let mut out = Output::stdout();
    if options.json {
        let list: Vec<_> = people
            .photos()
            .into_iter()
            .map(|(name, photos)| serde_json::json!({"name": name, "photos": photos}))
            .collect();
        out.line(serde_json::json!({ "people": list }))?;
    } else {
        let photos = people.photos();
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
