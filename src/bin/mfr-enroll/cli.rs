//! The command line. It and the files below it are the only ones that use clap.

mod sharing;

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::{Args, Parser, Subcommand};

use gstmfr::detect::{
    DEFAULT_MIN_FACE_SIZE, DEFAULT_SCALE_FACTOR, DEFAULT_THRESHOLDS, MIN_FACE_SIZES, Params,
    REFERENCE_OVERLAP, SCALE_FACTORS, parse_regions,
};
use gstmfr::frame::geometry::Rect;
use gstmfr::gallery::expiry::end_of_day;
use gstmfr::nn::{Device, SessionOptions};
use gstmfr::paint::{MaskType, UnknownMask};

use crate::input::names::{self, NameMeaning};
use crate::options::{self, GivenEnrolment, Masks, MinFace, NewPhotos, Subject, Vision};
use crate::people;

/// Makes the gallery for mfrrecognize from folders of photos, and identifies people in other photos.
#[derive(Debug, Parser)]
#[command(
    name = "mfr-enroll",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    after_help = "Without a command, --dataset and --output build a gallery.\n\n\
        Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but photos were rejected (--strict)."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<CommandArgs>,
    #[command(flatten)]
    build: BuildArgs,
}

#[derive(Debug, Subcommand)]
enum CommandArgs {
    /// Make a gallery from a folder of photos and short videos
    Build(BuildArgs),
    /// Add photos to a gallery, of people who are in it or of new ones; the photos it was made from are not needed
    Add(AddArgs),
    /// Remove people from a gallery
    Remove(RemoveArgs),
    /// Give a person of a gallery another name
    Rename(RenameArgs),
    /// Make one gallery from several
    Merge(MergeArgs),
    /// Check the photos of a folder without making a gallery, or check a gallery: which photos are unusable,
    /// which do not match the person's other photos, and which people look alike
    Check(CheckArgs),
    /// List the people of a gallery and how many photos each has
    List(ListArgs),
    /// Detect and identify the faces in photos
    Identify(IdentifyArgs),
    /// Write the embedding of the most prominent face of every photo
    Embed(EmbedArgs),
    /// Measure a gallery on photos of known and of unknown people
    Evaluate(EvaluateArgs),
    /// Write copies of photos in which every face wears a mask
    Mask(MaskArgs),
    /// Show what a gallery knows of one person
    Show(ShowArgs),
    /// Embed the faces of a gallery anew by the present network, from the crops that --faces-output has written
    Upgrade(UpgradeArgs),
    /// Find the people in unsorted photos and videos, and write crops of each to a folder to be named and enrolled
    Discover(sharing::DiscoverArgs),
    /// Write the embeddings of a gallery for another program
    Export(sharing::ExportArgs),
    /// Take people over from another program, by their embeddings or their photos
    Import(sharing::ImportArgs),
    /// Show which networks ONNX files hold, which engine runs them, and what the built-in kernels do not support
    Model(ModelArgs),
}

#[derive(Debug, Args)]
struct BuildArgs {
    /// Folder with a folder of photos and short videos for each person, or with such folders in
    /// train/ and val/
    // These are optional for the parser only, because they are not required when another command is given.
    #[arg(long, value_name = "DIR", required = true)]
    dataset: Option<PathBuf>,
    /// The gallery to write
    #[arg(long, value_name = "FILE.npz", required = true)]
    output: Option<PathBuf>,
    #[command(flatten)]
    enrolment: EnrolmentArgs,
}

#[derive(Debug, Args)]
struct AddArgs {
    /// The gallery to add to; it is made if there is none
    #[arg(long, value_name = "FILE.npz")]
    database: PathBuf,
    /// Folder with the same layout as for build
    #[arg(long, value_name = "DIR", required_unless_present = "name")]
    dataset: Option<PathBuf>,
    /// The person in the photos that follow
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "dataset",
        requires = "photos"
    )]
    name: Option<String>,
    /// Photos or short videos of the person
    #[arg(value_name = "PHOTO", requires = "name")]
    photos: Vec<PathBuf>,
    /// The last day, in UTC, on which the people in the photos are named [default: they do not expire; who is in the
    /// gallery already keeps their day]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    expires: Option<String>,
    #[command(flatten)]
    enrolment: EnrolmentArgs,
}

/// The options of `build` and `add`.
#[derive(Debug, Args)]
struct EnrolmentArgs {
    /// Photos of the same people, in the same layout, with which the gallery is tested [default: val/ of
    /// the dataset, if it has train/]
    #[arg(long, value_name = "DIR")]
    val: Option<PathBuf>,
    /// Write the crops of the faces as well, which are pictures of people; upgrade embeds them anew
    #[arg(long, value_name = "FILE.npz")]
    faces_output: Option<PathBuf>,
    /// Kinds of synthetic masks for copies of the photos, so that people are recognised when they
    /// wear one: surgical, kn95, n95, cloth, sponge, black, or none [default: all; in add those of the gallery]
    #[arg(long, value_name = "KIND,…|none", value_parser = mask_types)]
    masks: Option<MaskTypes>,
    /// Masked copies of every photo; kinds are used in rotation [default: 4; in add as in the gallery]
    #[arg(long, value_name = "N", value_parser = up_to_1024)]
    mask_copies: Option<usize>,
    /// Share of strangers that may be given a name; sets the thresholds [default: 0.01; in add that of the gallery]
    #[arg(long, value_name = "SHARE", value_parser = fpir)]
    target_fpir: Option<f64>,
    /// Process every photo again, including those that an interrupted run with the same options has
    /// processed and kept in FILE.npz.partial
    #[arg(long)]
    fresh: bool,
    /// Write an HTML page with all faces, their problems, and how well they are distinguished
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Exit with status 3 if a photo was rejected
    #[arg(long)]
    strict: bool,
    /// Report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    vision: VisionArgs,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// The gallery
    #[arg(long, value_name = "FILE.npz")]
    database: PathBuf,
    /// People to remove
    #[arg(value_name = "NAME", required_unless_present = "expired")]
    names: Vec<String>,
    /// Remove everybody whose last day is over (add --expires)
    #[arg(long, conflicts_with = "names")]
    expired: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Write a record of what was removed: names, counts and hashes, but no embedding
    #[arg(long, value_name = "FILE.json")]
    proof: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RenameArgs {
    /// The gallery
    #[arg(long, value_name = "FILE.npz")]
    database: PathBuf,
    /// The present name
    #[arg(value_name = "OLD")]
    old: String,
    /// The new one
    #[arg(value_name = "NEW")]
    new: String,
}

#[derive(Debug, Args)]
struct MergeArgs {
    /// The galleries, made with the same options
    #[arg(value_name = "FILE.npz", required = true, num_args = 2..)]
    galleries: Vec<PathBuf>,
    /// The gallery to write
    #[arg(long, value_name = "FILE.npz")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Folder with the same layout as for build
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "database",
        conflicts_with = "database"
    )]
    dataset: Option<PathBuf>,
    /// Check a gallery instead; it holds embeddings, but no photos
    #[arg(long, value_name = "FILE.npz")]
    database: Option<PathBuf>,
    /// Write an HTML page with all faces, their problems, and how well they are distinguished
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Exit with status 3 if a photo was rejected or is suspicious, or two people look alike
    #[arg(long)]
    strict: bool,
    /// Report as JSON, with the measurements of every photo
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    vision: VisionArgs,
}

#[derive(Debug, Args)]
struct ModelArgs {
    /// P-Net, R-Net, O-Net, FaceNet or mask network
    #[arg(value_name = "FILE.onnx", required = true)]
    files: Vec<PathBuf>,
    /// One JSON object per file
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The gallery
    #[arg(long, value_name = "FILE.npz")]
    database: PathBuf,
    /// List as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The gallery
    #[arg(long, value_name = "FILE.npz")]
    database: PathBuf,
    /// The person
    #[arg(value_name = "NAME")]
    name: String,
    /// Write an HTML page about the person
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct UpgradeArgs {
    /// The gallery
    #[arg(long, value_name = "FILE.npz")]
    database: PathBuf,
    /// Crops of its faces, as --faces-output of build and add has written them; may be given several times
    #[arg(long, value_name = "FILE.npz")]
    faces: Vec<PathBuf>,
    #[command(flatten)]
    vision: VisionArgs,
}

#[derive(Debug, Args)]
struct IdentifyArgs {
    /// Photos, or folders of photos
    #[arg(required = true, value_name = "IMAGE|DIR")]
    inputs: Vec<PathBuf>,
    /// The gallery; without it faces are detected but not identified
    #[arg(long, value_name = "FILE.npz")]
    database: Option<PathBuf>,
    /// One JSON object per photo and line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    vision: VisionArgs,
}

#[derive(Debug, Args)]
struct EmbedArgs {
    /// Photos, or folders of photos
    #[arg(required = true, value_name = "IMAGE|DIR")]
    inputs: Vec<PathBuf>,
    /// The file to write: embeddings, sources, boxes, confidences
    #[arg(long, value_name = "FILE.npz")]
    output: PathBuf,
    #[command(flatten)]
    vision: VisionArgs,
}

#[derive(Debug, Args)]
struct EvaluateArgs {
    /// The gallery
    #[arg(long, value_name = "FILE.npz")]
    database: PathBuf,
    /// Folder with a folder of photos for each person of the gallery
    #[arg(long, value_name = "DIR")]
    probes: PathBuf,
    /// Photos of people who are not in the gallery
    #[arg(long, value_name = "DIR")]
    unknown: Option<PathBuf>,
    /// Report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    vision: VisionArgs,
}

#[derive(Debug, Args)]
struct MaskArgs {
    /// Photos, or folders of photos
    #[arg(required = true, value_name = "IMAGE|DIR")]
    inputs: Vec<PathBuf>,
    /// Folder for the copies, PNG files named after their photo and their mask
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Kinds of masks: surgical, kn95, n95, cloth, sponge, black [default: all]
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_parser = mask_type)]
    masks: Vec<MaskType>,
    /// Copies of every photo; kinds are used in rotation [default: one of each kind]
    #[arg(long, value_name = "N", value_parser = up_to_1024)]
    mask_copies: Option<usize>,
    /// Seed; a different number results in different masks
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// One JSON object per photo and line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    vision: VisionArgs,
}

/// The properties of mfrdetect and mfrrecognize under the same names.
#[derive(Debug, Args)]
#[command(next_help_heading = "Detection and embedding")]
struct VisionArgs {
    /// Shorter side of the smallest face to detect, in pixels of the photo [default: 40 in
    /// identify, as in mfrdetect; else 20 or a fiftieth of the photo's longer side]
    #[arg(long, value_name = "PIXELS", value_parser = min_face_size)]
    min_face_size: Option<u32>,
    /// Minimum probability in MTCNN's first stage; twice its odds for faces up to 1.7 times the smallest
    /// [default: 0.6]
    #[arg(long, value_name = "0…1", value_parser = probability)]
    pnet_threshold: Option<f32>,
    /// Minimum probability in MTCNN's second stage [default: 0.7]
    #[arg(long, value_name = "0…1", value_parser = probability)]
    rnet_threshold: Option<f32>,
    /// Minimum probability in MTCNN's third stage [default: 0.7]
    #[arg(long, value_name = "0…1", value_parser = probability)]
    onet_threshold: Option<f32>,
    /// Ratio of one size to the next in the image pyramid [default: 0.709]
    #[arg(long, value_name = "0.1…0.95", value_parser = scale_factor)]
    scale_factor: Option<f32>,
    /// Maximum number of faces per photo, largest first; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_faces: usize,
    /// Regions of the photo to search [default: everywhere]
    #[arg(long, value_name = "X,Y,W,H[;…]", default_value = "", hide_default_value = true, value_parser = regions, allow_hyphen_values = true)]
    inference_region: Regions,
    /// Folder with pnet.onnx, rnet.onnx and onet.onnx [default: built in]
    #[arg(long, value_name = "DIR")]
    model_path: Option<PathBuf>,
    /// The embedding network [default: the installed facenet.onnx]
    #[arg(long, value_name = "FILE.onnx")]
    model: Option<PathBuf>,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value_t = Device::Cpu, value_parser = device)]
    device: Device,
    /// Threads per embedding network; with 0 every job has a network on a thread of its own, else
    /// there are as many networks as fit into the jobs
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = up_to_1024)]
    threads: usize,
    /// Number of photos to process in parallel; 0 for the number of cores
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = up_to_1024)]
    jobs: usize,
}

impl VisionArgs {
    fn thresholds(&self) -> [Option<f32>; 3] {
        [
            self.pnet_threshold,
            self.rnet_threshold,
            self.onet_threshold,
        ]
    }
}

/// A list in one argument; a plain `Vec` would make clap expect one argument for each element.
#[derive(Debug, Clone)]
struct Regions(Vec<Rect>);

/// A list of kinds of masks in one argument, which may be empty.
#[derive(Debug, Clone)]
struct MaskTypes(Vec<MaskType>);

/// Parses the arguments. If clap rejects them, the program exits here with status 2.
pub fn command() -> Result<options::Command> {
    let cli = Cli::parse();
    Ok(match cli.command.unwrap_or(CommandArgs::Build(cli.build)) {
        CommandArgs::Build(args) => options::Command::Build(build(args)?),
        CommandArgs::Add(args) => options::Command::Build(add(args)?),
        CommandArgs::Remove(args) => options::Command::Remove(options::RemoveOptions {
            database: args.database,
            names: args.names,
            expired: args.expired,
            yes: args.yes,
            proof: args.proof,
        }),
        CommandArgs::Rename(args) => options::Command::Rename(options::RenameOptions {
            database: args.database,
            old: args.old,
            new: person(&args.new)?,
        }),
        CommandArgs::Merge(args) => options::Command::Merge(options::MergeOptions {
            galleries: args.galleries,
            output: args.output,
        }),
        CommandArgs::Check(args) => options::Command::Check(check(args)?),
        CommandArgs::Export(args) => options::Command::Export(sharing::export(args)),
        CommandArgs::Import(args) => options::Command::Import(sharing::import(args)),
        CommandArgs::Discover(args) => options::Command::Discover(sharing::discover(args)?),
        CommandArgs::Model(args) => options::Command::Model(options::ModelOptions {
            files: args.files,
            json: args.json,
        }),
        CommandArgs::List(args) => options::Command::List(options::ListOptions {
            database: args.database,
            json: args.json,
        }),
        CommandArgs::Show(args) => options::Command::Show(options::ShowOptions {
            database: args.database,
            name: args.name,
            report: args.report,
        }),
        CommandArgs::Upgrade(args) => options::Command::Upgrade(options::UpgradeOptions {
            database: args.database,
            faces: args.faces,
            vision: vision(args.vision, MinFace::Relative),
        }),
        CommandArgs::Identify(args) => options::Command::Identify(options::IdentifyOptions {
            inputs: args.inputs,
            database: args.database,
            json: args.json,
            vision: vision(args.vision, MinFace::Pixels(DEFAULT_MIN_FACE_SIZE)),
        }),
        CommandArgs::Embed(args) => options::Command::Embed(options::EmbedOptions {
            inputs: args.inputs,
            output: args.output,
            vision: vision(args.vision, MinFace::Relative),
        }),
        CommandArgs::Evaluate(args) => options::Command::Evaluate(options::EvaluateOptions {
            database: args.database,
            probes: args.probes,
            unknown: args.unknown,
            json: args.json,
            vision: vision(args.vision, MinFace::Relative),
        }),
        CommandArgs::Mask(args) => options::Command::Mask(options::MaskOptions {
            inputs: args.inputs,
            output: args.output,
            masks: masks(args.masks, args.mask_copies, args.seed),
            json: args.json,
            vision: vision(args.vision, MinFace::Relative),
        }),
    })
}

/// All kinds by default, and one copy of each.
fn masks(types: Vec<MaskType>, copies: Option<usize>, seed: u64) -> Masks {
    let types = if types.is_empty() {
        MaskType::ALL.to_vec()
    } else {
        types
    };
    Masks {
        copies: copies.unwrap_or(types.len()),
        types,
        seed,
    }
}

fn mask_types(text: &str) -> Result<MaskTypes, String> {
    if text == "none" {
        return Ok(MaskTypes(Vec::new()));
    }
    let types: Result<_, String> = text.split(',').map(mask_type).collect();
    types.map(MaskTypes)
}

fn fpir(text: &str) -> Result<f64, String> {
    let expected = "a share above 0 and up to 0.5, as 0.01 for 1 %";
    number(text, expected, |&v| v > 0.0 && v <= 0.5)
}

fn mask_type(text: &str) -> Result<MaskType, String> {
    text.parse().map_err(|e: UnknownMask| e.to_string())
}

fn build(args: BuildArgs) -> Result<options::BuildOptions> {
    let (Some(dataset), Some(output)) = (args.dataset, args.output) else {
        bail!("--dataset and --output are required");
    };
    enrolment(
        NewPhotos::Dataset(dataset),
        ("--output", output),
        args.enrolment,
    )
}

fn add(args: AddArgs) -> Result<options::BuildOptions> {
    let photos = match (args.dataset, args.name) {
        (Some(dataset), None) => NewPhotos::Dataset(dataset),
        (None, Some(name)) => NewPhotos::Person {
            name: person(&name)?,
            photos: args.photos,
        },
        _ => bail!("either --dataset or --name is required"),
    };
    let built = enrolment(photos, ("--database", args.database), args.enrolment)?;
    Ok(options::BuildOptions {
        adds: true,
        expires: args.expires,
        ..built
    })
}

/// A name as it is written to galleries.
fn person(name: &str) -> Result<String> {
    match names::read(name.as_ref()) {
        NameMeaning::Person(person) => Ok(person),
        NameMeaning::Skipped(reason) | NameMeaning::Unusable(reason) => {
            bail!("nobody can be called {name:?}: {reason}")
        }
    }
}

fn enrolment(
    photos: NewPhotos,
    (flag, output): (&str, PathBuf),
    args: EnrolmentArgs,
) -> Result<options::BuildOptions> {
    let others = [
        ("--faces-output", &args.faces_output),
        ("--report", &args.report),
    ];
    let named = others.map(|(flag, path)| Some((flag, path.as_ref()?)));
    let mut named: Vec<_> = named.into_iter().flatten().collect();
    named.push((flag, &output));
    for (i, (flag, path)) in named.iter().enumerate() {
        for (other, same) in &named[i + 1..] {
            ensure!(
                path != same,
                "{other} and {flag} both name {}; give them different names",
                path.display()
            );
        }
    }
    Ok(options::BuildOptions {
        photos,
        output,
        adds: false,
        expires: None,
        val: args.val,
        faces_output: args.faces_output,
        given: GivenEnrolment {
            target_fpir: args.target_fpir,
            masks: args.masks.map(|masks| masks.0),
            mask_copies: args.mask_copies,
            min_face_size: args.vision.min_face_size,
            detection_thresholds: args.vision.thresholds(),
            scale_factor: args.vision.scale_factor,
        },
        fresh: args.fresh,
        report: args.report,
        strict: args.strict,
        json: args.json,
        vision: vision(args.vision, MinFace::Relative),
    })
}

fn check(args: CheckArgs) -> Result<options::CheckOptions> {
    let subject = match (args.dataset, args.database) {
        (Some(dataset), None) => Subject::Dataset(dataset),
        (None, Some(database)) => Subject::Database(database),
        _ => bail!("either --dataset or --database is required"),
    };
    Ok(options::CheckOptions {
        subject,
        report: args.report,
        strict: args.strict,
        json: args.json,
        vision: vision(args.vision, MinFace::Relative),
    })
}

fn vision(args: VisionArgs, min_face: MinFace) -> Vision {
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
    Vision {
        min_face: args.min_face_size.map_or(min_face, MinFace::Pixels),
        params: Params {
            thresholds: std::array::from_fn(|stage| {
                args.thresholds()[stage].unwrap_or(DEFAULT_THRESHOLDS[stage])
            }),
            scale_factor: args.scale_factor.unwrap_or(DEFAULT_SCALE_FACTOR),
            max_faces: args.max_faces,
            regions: args.inference_region.0,
            // For photos there is time to pass all of R-Net's boxes on, which makes the boxes of masked faces
            // slightly better.
            overlap: REFERENCE_OVERLAP,
            ..Params::default()
        },
        model_path: args.model_path,
        model: args.model,
        session: SessionOptions {
            device: args.device,
            threads: args.threads,
        },
        jobs: if args.jobs > 0 { args.jobs } else { cores() },
    }
}

/// Parses a number and checks it with `is_valid`.
fn number<T: std::str::FromStr>(
    text: &str,
    expected: &str,
    is_valid: impl Fn(&T) -> bool,
) -> Result<T, String> {
    text.parse()
        .ok()
        .filter(is_valid)
        .ok_or_else(|| format!("expected {expected}"))
}

fn min_face_size(text: &str) -> Result<u32, String> {
    let (least, most) = (MIN_FACE_SIZES.start(), MIN_FACE_SIZES.end());
    number(text, &format!("{least} to {most} pixels"), |v| {
        MIN_FACE_SIZES.contains(v)
    })
}

fn probability(text: &str) -> Result<f32, String> {
    number(text, "a number from 0 to 1", |v| (0.0..=1.0).contains(v))
}

fn scale_factor(text: &str) -> Result<f32, String> {
    let (least, most) = (SCALE_FACTORS.start(), SCALE_FACTORS.end());
    number(text, &format!("a number from {least} to {most}"), |v| {
        SCALE_FACTORS.contains(v)
    })
}

/// A day that is not over.
fn day(text: &str) -> Result<String, String> {
    let end = end_of_day(text).ok_or("expected a day, as 2027-01-31")?;
    match end > people::seconds_now() {
        true => Ok(text.to_owned()),
        false => Err("this day is over, so nobody would be named".to_owned()),
    }
}

fn up_to_1024(text: &str) -> Result<usize, String> {
    number(text, "a whole number from 0 to 1024", |&v| v <= 1024)
}

fn regions(text: &str) -> Result<Regions, String> {
    parse_regions(text).map(Regions).map_err(|e| e.to_string())
}

fn device(text: &str) -> Result<Device, String> {
    text.parse::<Device>().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_alone_build() {
        let cli = Cli::parse_from(["mfr-enroll", "--dataset", "d", "--output", "o.npz"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.build.dataset, Some(PathBuf::from("d")));
        let cli = Cli::parse_from(["mfr-enroll", "build", "--dataset", "d", "--output", "o.npz"]);
        assert!(matches!(cli.command, Some(CommandArgs::Build(_))));
    }

    #[test]
    fn other_commands_do_not_ask_for_the_flags_of_build() {
        let cli = Cli::parse_from(["mfr-enroll", "identify", "a.jpg"]);
        assert!(matches!(cli.command, Some(CommandArgs::Identify(_))));
    }
}
