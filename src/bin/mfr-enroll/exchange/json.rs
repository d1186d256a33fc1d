//! Plain JSON: ours, `{"format", "contract", "people": [{"name", "embeddings": [{"embedding", "source", "kind"}]}]}`, and that
//! of others, an object of names with a list of embeddings, or one embedding, each.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context, Result, ensure};
use gstmfr::gallery::{Contract, Entry};
use ndarray::Array1;
use serde::{Deserialize, Serialize};

use super::numbers::decimals;
use super::{Exchanged, Origin, people};

/// Value of `format`.
const FORMAT: &str = "mfr-gallery-json/1";

#[derive(Serialize)]
struct Head<'a> {
    format: &'a str,
    contract: &'a Contract,
}

#[derive(Serialize)]
struct Row {
    embedding: Vec<f64>,
    #[serde(flatten)]
    origin: Origin,
}

#[derive(Deserialize)]
struct Document {
    format: String,
    contract: Option<Contract>,
    people: Vec<Person>,
}

#[derive(Deserialize)]
struct Person {
    name: String,
    embeddings: Vec<ReadRow>,
}

#[derive(Deserialize)]
struct ReadRow {
    embedding: Vec<f32>,
    #[serde(flatten)]
    origin: Option<Origin>,
}

/// What another program may have for a person.
#[derive(Deserialize)]
#[serde(untagged)]
enum Loose {
    One(Vec<f32>),
    Several(Vec<Vec<f32>>),
}

/// Writes one embedding a line, so that the memory is that of one.
pub fn write(out: &mut impl Write, entries: &[Entry], contract: &Contract) -> io::Result<()> {
    let format = FORMAT;
    let head = serde_json::to_string(&Head { format, contract })?;
    // Without the closing brace, because the people follow.
    write!(out, "{},\"people\":[", &head[..head.len() - 1])?;
    for (i, (name, own)) in people(entries).enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let name = serde_json::to_string(name)?;
        write!(out, "{comma}\n{{\"name\":{name},\"embeddings\":[")?;
        for (i, entry) in own.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let row = Row {
                embedding: decimals(&entry.embedding),
                origin: Origin::of(entry),
            };
            write!(out, "{comma}\n{}", serde_json::to_string(&row)?)?;
        }
        write!(out, "]}}")?;
    }
    writeln!(out, "]}}")
}

/// Reads either form.
pub fn read(bytes: &[u8]) -> Result<Exchanged> {
    // Only the keys are looked at first, so that an error is about the form that was meant.
    let keys: BTreeMap<String, serde::de::IgnoredAny> = serde_json::from_slice(bytes)
        .context("expected a JSON object, of people with their embeddings")?;
    if !keys.contains_key("people") {
        return read_loose(bytes);
    }
    let document: Document = serde_json::from_slice(bytes)?;
    ensure!(
        document.format == FORMAT,
        "expected the format {FORMAT:?}, found {:?}",
        document.format
    );
    let mut entries = Vec::new();
    for person in document.people {
        for row in person.embeddings {
            let name = person.name.clone();
            entries.push(Origin::entry(
                row.origin,
                name,
                Array1::from(row.embedding),
            )?);
        }
    }
    Ok(Exchanged {
        entries,
        contract: document.contract,
    })
}

fn read_loose(bytes: &[u8]) -> Result<Exchanged> {
    let people: BTreeMap<String, Loose> = serde_json::from_slice(bytes).context(
        "expected {\"people\": […]} as mfr-enroll export writes it, or {\"name\": [embedding, …], …}",
    )?;
    let mut entries = Vec::new();
    for (name, embeddings) in people {
        let embeddings = match embeddings {
            Loose::One(embedding) => vec![embedding],
            Loose::Several(embeddings) => embeddings,
        };
        for embedding in embeddings {
            entries.push(Origin::entry(None, name.clone(), Array1::from(embedding))?);
        }
    }
    Ok(Exchanged {
        entries,
        contract: None,
    })
}
