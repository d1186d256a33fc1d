//! The command line. The only file that knows clap.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::{Args, Parser, Subcommand};

use gstmfr::detect::{
    DEFAULT_MIN_FACE_SIZE, DEFAULT_SCALE_FACTOR, DEFAULT_THRESHOLDS, MIN_FACE_SIZES, Params,
    REFERENCE_OVERLAP, SCALE_FACTORS, parse_regions,
};
use gstmfr::frame::geometry::Rect;
use gstmfr::gallery::DEFAULT_TARGET_FPIR;
use gstmfr::nn::{Device, SessionOptions};
use gstmfr::paint::{MaskType, UnknownMask};

use crate::options::{self, Masks, MinFace, Subject, Vision};

/// Makes the gallery for mfrrecognize from folders of photos, and tells who is in others.
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
    command: Option<Command>,
    #[command(flatten)]
    build: BuildArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a gallery from a folder of photos and short videos
    Build(BuildArgs),
    /// Look at the photos of a folder without making a gallery, or at a gallery: what is unusable,
    /// whose photos do not agree, who looks like whom
    Check(CheckArgs),
    /// List the people of a gallery and how many photos each has
    List(ListArgs),
    /// Find the faces in photos and name them
    Identify(IdentifyArgs),
    /// Write the embedding of the most prominent face of every photo
    Embed(EmbedArgs),
    /// Measure a gallery on photos of known and of unknown people
    Evaluate(EvaluateArgs),
    /// Write copies of photos in which everybody wears a mask
    Mask(MaskArgs),
    /// Tell which networks ONNX files hold, which engine runs them, and what our kernels refuse
    Model(ModelArgs),
}

#[derive(Debug, Args)]
struct BuildArgs {
    /// Folder with a folder of photos and short videos for each person, or with such folders in
    /// train/ and val/
    // Optional for the parser alone: they are not asked for where another command is given.
    #[arg(long, value_name = "DIR", required = true)]
    dataset: Option<PathBuf>,
    /// The gallery to write
    #[arg(long, value_name = "FILE.npz", required = true)]
    output: Option<PathBuf>,
    /// Photos of the same people, laid out alike, on which the gallery is tried [default: val/ of
    /// the dataset, if it has train/]
    #[arg(long, value_name = "DIR")]
    val: Option<PathBuf>,
    /// Write the crops of the faces as well
    #[arg(long, value_name = "FILE.npz")]
    faces_output: Option<PathBuf>,
    /// Kinds of masks that are painted onto copies of the photos, so that people are known when they
    /// wear one: surgical, kn95, n95, cloth, sponge, black, or none [default: all]
    #[arg(long, value_name = "KIND,…|none", value_parser = mask_types)]
    masks: Option<MaskTypes>,
    /// Masked copies of every photo; kinds take turns
    #[arg(long, value_name = "N", default_value_t = options::MASK_COPIES, value_parser = up_to_1024)]
    mask_copies: usize,
    /// Share of strangers that may be taken for somebody; sets the thresholds
    #[arg(long, value_name = "SHARE", default_value_t = DEFAULT_TARGET_FPIR, value_parser = fpir)]
    target_fpir: f64,
    /// Look at every photo again, also at those that an interrupted run with the same options had
    /// done and kept in FILE.npz.partial
    #[arg(long)]
    fresh: bool,
    /// Write a page with all faces, what is wrong with them, and how well they are told apart
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// End with status 3 when a photo was rejected
    #[arg(long)]
    strict: bool,
    /// Report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    vision: VisionArgs,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Folder laid out as for build
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "database",
        conflicts_with = "database"
    )]
    dataset: Option<PathBuf>,
    /// A gallery instead; it holds no photos, only what was learned from them
    #[arg(long, value_name = "FILE.npz")]
    database: Option<PathBuf>,
    /// Write a page with all faces, what is wrong with them, and how well they are told apart
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// End with status 3 when a photo was rejected, is suspicious, or two people look like one
    #[arg(long)]
    strict: bool,
    /// Report as JSON, with what was measured on every photo
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
    /// One JSON object for each file
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
struct IdentifyArgs {
    /// Photos, or folders of photos
    #[arg(required = true, value_name = "IMAGE|DIR")]
    inputs: Vec<PathBuf>,
    /// The gallery; without it faces are found but not named
    #[arg(long, value_name = "FILE.npz")]
    database: Option<PathBuf>,
    /// One JSON object a line for each photo
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
    /// Folder for the copies, PNG files called like their photo and their mask
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Kinds of masks: surgical, kn95, n95, cloth, sponge, black [default: all]
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_parser = mask_type)]
    masks: Vec<MaskType>,
    /// Copies of every photo; kinds take turns [default: one of each kind]
    #[arg(long, value_name = "N", value_parser = up_to_1024)]
    mask_copies: Option<usize>,
    /// Other masks for another number
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// One JSON object a line for each photo
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    vision: VisionArgs,
}

/// The properties of mfrdetect and mfrrecognize under the same names.
#[derive(Debug, Args)]
#[command(next_help_heading = "Detection and embedding")]
struct VisionArgs {
    /// Shortest side of the smallest face looked for, in pixels of the photo [default: 40 in
    /// identify, as mfrdetect; else 20 or a fiftieth of the photo's longer side]
    #[arg(long, value_name = "PIXELS", value_parser = min_face_size)]
    min_face_size: Option<u32>,
    /// Least probability of MTCNN's first stage; twice its odds for faces up to 1.7 times the smallest
    #[arg(long, value_name = "0…1", default_value_t = DEFAULT_THRESHOLDS[0], value_parser = probability)]
    pnet_threshold: f32,
    /// Least probability of MTCNN's second stage
    #[arg(long, value_name = "0…1", default_value_t = DEFAULT_THRESHOLDS[1], value_parser = probability)]
    rnet_threshold: f32,
    /// Least probability of MTCNN's third stage
    #[arg(long, value_name = "0…1", default_value_t = DEFAULT_THRESHOLDS[2], value_parser = probability)]
    onet_threshold: f32,
    /// From one size to the next in the search
    #[arg(long, value_name = "0.1…0.95", default_value_t = DEFAULT_SCALE_FACTOR, value_parser = scale_factor)]
    scale_factor: f32,
    /// The largest faces of a photo only; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_faces: usize,
    /// Where in the photo to look [default: everywhere]
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
    /// Threads of an embedding network; with 0 every job has a network on a thread of its own, else
    /// there are as many networks as fit into the jobs
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = up_to_1024)]
    threads: usize,
    /// Photos worked on at once; 0 for as many as there are cores
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = up_to_1024)]
    jobs: usize,
}

/// A list in one argument; a bare `Vec` would make clap expect one argument for each.
#[derive(Debug, Clone)]
struct Regions(Vec<Rect>);

/// The same of kinds of masks, which may be none at all.
#[derive(Debug, Clone)]
struct MaskTypes(Vec<MaskType>);

/// Reads the arguments. What clap refuses ends the program here, with status 2.
pub fn command() -> Result<options::Command> {
    let cli = Cli::parse();
    Ok(match cli.command.unwrap_or(Command::Build(cli.build)) {
        Command::Build(args) => options::Command::Build(build(args)?),
        Command::Check(args) => options::Command::Check(check(args)?),
        Command::Model(args) => options::Command::Model(options::Model {
            files: args.files,
            json: args.json,
        }),
        Command::List(args) => options::Command::List(options::List {
            database: args.database,
            json: args.json,
        }),
        Command::Identify(args) => options::Command::Identify(options::Identify {
            inputs: args.inputs,
            database: args.database,
            json: args.json,
            vision: vision(args.vision, MinFace::Pixels(DEFAULT_MIN_FACE_SIZE)),
        }),
        Command::Embed(args) => options::Command::Embed(options::Embed {
            inputs: args.inputs,
            output: args.output,
            vision: vision(args.vision, MinFace::Relative),
        }),
        Command::Evaluate(args) => options::Command::Evaluate(options::Evaluate {
            database: args.database,
            probes: args.probes,
            unknown: args.unknown,
            json: args.json,
            vision: vision(args.vision, MinFace::Relative),
        }),
        Command::Mask(args) => options::Command::Mask(options::Mask {
            inputs: args.inputs,
            output: args.output,
            masks: masks(args.masks, args.mask_copies, args.seed),
            json: args.json,
            vision: vision(args.vision, MinFace::Relative),
        }),
    })
}

/// All kinds unless told otherwise, and one copy of each.
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

fn build(args: BuildArgs) -> Result<options::Build> {
    let (Some(dataset), Some(output)) = (args.dataset, args.output) else {
        bail!("--dataset and --output are required");
    };
    let others = [
        ("--faces-output", &args.faces_output),
        ("--report", &args.report),
    ];
    let named = others.map(|(flag, path)| Some((flag, path.as_ref()?)));
    let mut named: Vec<_> = named.into_iter().flatten().collect();
    named.push(("--output", &output));
    for (i, (flag, path)) in named.iter().enumerate() {
        for (other, same) in &named[i + 1..] {
            ensure!(
                path != same,
                "{other} and {flag} both name {}; give them different names",
                path.display()
            );
        }
    }
    let all = || MaskTypes(MaskType::ALL.to_vec());
    Ok(options::Build {
        dataset,
        output,
        val: args.val,
        faces_output: args.faces_output,
        masks: Masks {
            types: args.masks.unwrap_or_else(all).0,
            copies: args.mask_copies,
            seed: 0,
        },
        target_fpir: args.target_fpir,
        fresh: args.fresh,
        report: args.report,
        strict: args.strict,
        json: args.json,
        vision: vision(args.vision, MinFace::Relative),
    })
}

fn check(args: CheckArgs) -> Result<options::Check> {
    let subject = match (args.dataset, args.database) {
        (Some(dataset), None) => Subject::Dataset(dataset),
        (None, Some(database)) => Subject::Database(database),
        _ => bail!("either --dataset or --database is required"),
    };
    Ok(options::Check {
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
            thresholds: [
                args.pnet_threshold,
                args.rnet_threshold,
                args.onet_threshold,
            ],
            scale_factor: args.scale_factor,
            max_faces: args.max_faces,
            regions: args.inference_region.0,
            // A photo has time for all of R-Net's boxes; a masked face lies a little better then.
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

/// Reads a number and checks that `is_valid` accepts it.
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
        assert!(matches!(cli.command, Some(Command::Build(_))));
    }

    #[test]
    fn other_commands_do_not_ask_for_the_flags_of_build() {
        let cli = Cli::parse_from(["mfr-enroll", "identify", "a.jpg"]);
        assert!(matches!(cli.command, Some(Command::Identify(_))));
    }
}
