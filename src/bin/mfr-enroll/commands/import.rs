//! `import`: takes people over from other programs, by their embeddings or by their photos.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use gstmfr::gallery::{Contract, Enrolment, Entry, Gallery, Statistics};
use gstmfr::io::files::read_regular;

use super::build;
use super::change::{changed, contract_of, earliest, existing, with_unique_sources};
use crate::enrol::partial::OutputLock;
use crate::exchange::{Exchanged, MOST_BYTES, dlstreamer, hailo, json, npz as npz_file};
use crate::input::names::{self, NameMeaning};
use crate::input::peers;
use crate::npz;
use crate::options::{
    BuildOptions, EmbeddingFormat, GivenEnrolment, ImportFormat, ImportOptions, NewPhotos, shown,
};
use crate::output::{self, Output, counted};
use crate::people;
use crate::vision::batch::Embedders;

/// Mean cosine of a person's photos, and of the photos of different people, that embeddings of FaceNet have on no photos
/// that were seen: .69 and .1 on LFW, .5 and .15 on its masked faces.
const LEAST_INSIDE: f32 = 0.4;
const MOST_BETWEEN: f32 = 0.35;

/// Least mean cosine to the mean of faces in general, over people, and people from which it is meaningful: it is .24 ± .13 for
/// a face of LFW, and 0 for embeddings of a network with other axes.
const LEAST_TYPICAL: f32 = 0.1;
const ENOUGH_PEOPLE: usize = 10;

/// Pairs of embeddings that are compared at most, each kind.
const MOST_PAIRS: usize = 200_000;

pub fn run(options: &ImportOptions) -> Result<ExitCode> {
    match &options.format {
        ImportFormat::Embeddings(format) => embeddings(options, *format),
        ImportFormat::Photos(program) => {
            let files = peers::photos(*program, &options.input)?;
            build::run(&BuildOptions {
                photos: NewPhotos::Files {
                    root: options.input.clone(),
                    files,
                },
                output: options.output.clone(),
                adds: true,
                val: None,
                faces_output: None,
                given: GivenEnrolment::default(),
                expires: None,
                fresh: false,
                report: None,
                strict: false,
                json: false,
                vision: options.vision.clone(),
            })
        }
    }
}

fn embeddings(options: &ImportOptions, format: EmbeddingFormat) -> Result<ExitCode> {
    let (input, path) = (&options.input, &options.output);
    npz::check_writable(path)?;
    let found = read(format, input)?;
    found.check().with_context(|| shown(input))?;
    let lock = OutputLock::of(path)?;
    let before = match existing(path)? {
        Some(gallery) => Some((contract_of(&gallery, path)?, gallery)),
        None => None,
    };
    // The network of the gallery, or else of the embeddings.
    let own = before.as_ref().map(|(contract, _)| contract);
    let vision = options.vision.of_gallery(own.or(found.contract.as_ref()))?;
    let embedders = Embedders::load(&vision)?;
    // Embeddings that say nothing about it are taken as made like those that are there.
    let like = before.as_ref().map(|(contract, _)| contract.enrolment());
    let contract = contract(&found, options, &embedders, like.unwrap_or_default())?;
    let entries = named(found.entries, input)?;
    let gallery = match before {
        None => {
            output::note(&format!("{} is not there, and is made", path.display()));
            let target_fpir = contract.enrolment().target_fpir;
            let mut gallery = Gallery::train(entries, contract)?;
            gallery.calibrate(target_fpir)?;
            gallery
        }
        Some((own, before)) => {
            if let Some(difference) = own.difference(&contract) {
                bail!(
                    "{} and {} cannot be in one gallery: {difference}",
                    path.display(),
                    input.display()
                );
            }
            let own = Contract {
                expires: earliest([&own, &contract].into_iter()),
                ..own
            };
            let mut taken = BTreeSet::new();
            let mut all = with_unique_sources(before.entries(), &mut taken);
            all.extend(with_unique_sources(entries, &mut taken));
            before.remade(all, changed(own))?.0
        }
    };
    gallery.save(path)?;
    drop(lock);
    let mut out = Output::stdout();
    out.line(format_args!(
        "{}: {}, {}",
        shown(path),
        counted(gallery.names().len(), "person"),
        counted(gallery.labels().len(), "embedding")
    ))?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn read(format: EmbeddingFormat, input: &Path) -> Result<Exchanged> {
    let whole = || read_regular(input, MOST_BYTES).with_context(|| shown(input));
    match format {
        EmbeddingFormat::Json => json::read(&whole()?).with_context(|| shown(input)),
        EmbeddingFormat::Hailo => hailo::read(&whole()?).with_context(|| shown(input)),
        EmbeddingFormat::DlStreamer => dlstreamer::read(input),
        EmbeddingFormat::Npz => npz_file::read(input),
    }
}

/// The contract of the embeddings. That of a file is checked; without one the user has to know what they were made with.
fn contract(
    found: &Exchanged,
    options: &ImportOptions,
    embedders: &Embedders,
    like: Enrolment,
) -> Result<Contract> {
    let input = options.input.display();
    if let Some(contract) = &found.contract {
        let preprocessing = gstmfr::embed::PREPROCESSING;
        let pairs = [
            (
                "the network of sha256",
                contract.model_sha256.as_str(),
                embedders.model_sha256(),
            ),
            ("the crop", contract.preprocessing.as_str(), preprocessing),
        ];
        for (what, expected, own) in pairs {
            ensure!(
                expected == own,
                "{input}: its embeddings were made with {what} {expected:?}, expected {own:?}; name the network by --model"
            );
        }
        return Ok(contract.clone());
    }
    ensure!(
        options.trust_embeddings,
        "{input} does not say which network and crop its embeddings were made with; those of another one match nobody. If \
         they are of this network, say so by --trust-embeddings; else import the photos"
    );
    let dim = found.check()?;
    ensure!(
        dim == embedders.dim(),
        "{input}: its embeddings have {dim} numbers, this network's have {}",
        embedders.dim()
    );
    for doubt in doubts(
        &found.entries,
        Statistics::built_in(embedders.model_sha256())?,
    ) {
        output::warning(&format!(
            "{input}: {doubt}; the embeddings look like those of another network or crop, by which nobody is recognised"
        ));
    }
    Ok(people::contract(embedders, like))
}

/// Why embeddings may be of another network.
fn doubts(entries: &[Entry], statistics: Option<&Statistics>) -> Vec<String> {
    let mut doubts = Vec::new();
    let [inside, between] = mean_cosines(entries);
    if let Some(inside) = inside.filter(|&mean| mean < LEAST_INSIDE) {
        doubts.push(format!(
            "the mean cosine of two photos of a person is {inside:.2}, expected {LEAST_INSIDE} or more"
        ));
    }
    if let Some(between) = between.filter(|&mean| mean > MOST_BETWEEN) {
        doubts.push(format!(
            "the mean cosine of photos of different people is {between:.2}, expected {MOST_BETWEEN} or less"
        ));
    }
    let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    if let Some(statistics) = statistics
        && names.len() >= ENOUGH_PEOPLE
    {
        let unit = |entry: &Entry| &entry.embedding / entry.embedding.dot(&entry.embedding).sqrt();
        let typical = entries
            .iter()
            .map(|entry| statistics.typicality(unit(entry).view(), entry.kind.is_masked()));
        let mean = typical.sum::<f32>() / entries.len() as f32;
        if mean < LEAST_TYPICAL {
            doubts.push(format!(
                "their mean cosine to faces in general is {mean:.2}, expected {LEAST_TYPICAL} or more"
            ));
        }
    }
    doubts
}

/// The mean cosine inside people, and between them; None where there is no pair.
fn mean_cosines(entries: &[Entry]) -> [Option<f32>; 2] {
    let mut sums = [(0.0f64, 0usize); 2];
    // Distances that have no common factor with many lists, so that all people are among the pairs.
    for distance in [1, 2, 3, 5, 7, 11, 13, 101, 1009] {
        for (a, b) in entries.iter().zip(entries.iter().skip(distance)) {
            let (sum, count) = &mut sums[usize::from(a.name != b.name)];
            if *count < MOST_PAIRS {
                let lengths = a.embedding.dot(&a.embedding) * b.embedding.dot(&b.embedding);
                *sum += f64::from(a.embedding.dot(&b.embedding) / lengths.sqrt());
                *count += 1;
            }
        }
    }
    sums.map(|(sum, count)| (count > 0).then(|| (sum / count as f64) as f32))
}

/// The entries with names as galleries have them.
fn named(entries: Vec<Entry>, input: &Path) -> Result<Vec<Entry>> {
    let entries = entries.into_iter().map(|entry| {
        let name = match names::read(entry.name.as_ref()) {
            NameMeaning::Person(name) => name,
            NameMeaning::Skipped(reason) | NameMeaning::Unusable(reason) => bail!(
                "{}: nobody can be called {:?}: {reason}",
                input.display(),
                entry.name
            ),
        };
        Ok(Entry { name, ..entry })
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gstmfr::gallery::Kind;
    use ndarray::Array1;

    fn entries(embedding: impl Fn(usize, usize) -> Array1<f32>) -> Vec<Entry> {
        let entry = |i: usize| Entry {
            name: format!("person {:02}", i / 3),
            source: String::new(),
            kind: Kind::Photo,
            embedding: embedding(i / 3, i % 3),
        };
        (0..60).map(entry).collect()
    }

    #[test]
    fn people_who_are_apart_from_each_other_raise_no_doubt() {
        let good = entries(|person, photo| {
            let mut e = Array1::from_elem(64, 0.03);
            e[person] = 1.0;
            e[32 + photo] = 0.3;
            e
        });
        assert_eq!(doubts(&good, None), Vec::<String>::new());
    }

    #[test]
    fn photos_of_a_person_that_have_nothing_in_common_and_people_who_are_alike_raise_doubts() {
        let scattered = entries(|person, photo| {
            let mut e = Array1::zeros(64);
            e[person * 3 + photo] = 1.0;
            e
        });
        let doubts_of = |entries: &[Entry]| doubts(entries, None).join("; ");
        assert!(doubts_of(&scattered).contains("two photos of a person is 0.00"));
        let alike = entries(|_, _| Array1::from_elem(64, 1.0));
        assert!(doubts_of(&alike).contains("different people is 1.00"));
    }
}
