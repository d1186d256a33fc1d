//! Benchmarks of the parts of processing a frame, each by itself, on one thread.
//!
//! ```sh
//! make photos
//! cargo bench --bench kernels [-- FILTER]
//! ```
//!
//! Throughput per second is in pixels of the pyramid for P-Net, in crops for R-Net and O-Net, in faces for FaceNet.

#[path = "../shared/mod.rs"]
mod shared;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use gstmfr::detect::{Detector, Params, Stages};
use gstmfr::embed::mask::MaskNet;
use gstmfr::embed::{Embedder, crop_rgb8};
use gstmfr::frame::geometry::Rect;
use gstmfr::frame::image::{ImageView, PixelFormat};
use gstmfr::frame::mipmap::Mipmap;
use gstmfr::frame::resize::{Border, Filter, Resize, Resizer};
use gstmfr::nn::testing::{Arithmetic, Kernels};
use gstmfr::nn::{Isa, SessionOptions};
use shared::frames::{Frame, Photos, pyramid_pixels};
use shared::{Error, tree};

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
const MIN_FACE: u32 = 40;
const FORMATS: [PixelFormat; 4] = [
    PixelFormat::Nv12,
    PixelFormat::I420,
    PixelFormat::Rgb,
    PixelFormat::Bgrx,
];
const ONE_THREAD: SessionOptions = SessionOptions {
    device: gstmfr::nn::Device::Cpu,
    threads: 1,
};

fn main() -> Result<(), Error> {
    let mut criterion = Criterion::default().configure_from_args();
    let photos = Photos::load()?;
    let picture = photos.frame(WIDTH, HEIGHT, 8);
    let frame = Frame::new(&picture, PixelFormat::Nv12);
    networks(&mut criterion, &frame.view()?)?;
    faces(&mut criterion, &frame.view()?)?;
    for format in FORMATS {
        let frame = Frame::new(&picture, format);
        pixels(&mut criterion, &frame.view()?);
    }
    criterion.final_summary();
    Ok(())
}

/// Measures the time of a stage of detection, with `parts` elements as its throughput.
fn stage(
    criterion: &mut Criterion,
    name: &str,
    parts: usize,
    mut run: impl FnMut() -> Stages,
    time: impl Fn(Stages) -> Duration,
) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(parts as u64));
    group.bench_function(BenchmarkId::from_parameter(parts), |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| time(run())).sum());
    });
    group.finish();
}

fn networks(criterion: &mut Criterion, view: &ImageView) -> Result<(), Error> {
    let mut detector = Detector::built_in(&ONE_THREAD)?;
    let params = Params {
        min_face_size: MIN_FACE,
        // No candidate passes P-Net, so that the other stages have nothing to process.
        thresholds: [2.0; 3],
        ..Params::default()
    };
    let mut search = |params: &Params| {
        // Errors are ignored, because any would already have occurred in the first search.
        let _ = detector.detect(view, params);
        detector.stages()
    };
    search(&params);
    let pixels = pyramid_pixels(WIDTH, HEIGHT, MIN_FACE);
    stage(criterion, "P-Net", pixels, || search(&params), |s| s.pnet);
    layers_of_pnet(criterion)?;

    // A region of the size of the smallest face has one window of P-Net, which passes to R-Net with a threshold of 0.
    let side = MIN_FACE as f32;
    for count in [1, 6, 96] {
        let regions: Vec<_> = (0..count)
            .map(|i| Rect::new((i % 12) as f32 * side, (i / 12) as f32 * side, side, side))
            .collect();
        let params = Params {
            min_face_size: MIN_FACE,
            thresholds: [0.0, 2.0, 2.0],
            regions,
            ..Params::default()
        };
        stage(criterion, "R-Net", count, || search(&params), |s| s.rnet);
    }
    for count in [1, 6, 96] {
        let places: Vec<_> = (0..count)
            .map(|i| Rect::new((i % 12) as f32 * 90.0, (i / 12) as f32 * 90.0, 80.0, 80.0))
            .collect();
        let look = || {
            let _ = detector.follow(view, &places);
            detector.stages()
        };
        stage(criterion, "O-Net", count, look, |s| s.onet);
    }
    Ok(())
}

/// P-Net layer by layer, as run by the planner, on the largest level of a frame: the baseline of the row-streaming
/// kernel.
fn layers_of_pnet(criterion: &mut Criterion) -> Result<(), Error> {
    let (width, height) = (
        WIDTH * 12 / MIN_FACE as usize,
        HEIGHT * 12 / MIN_FACE as usize,
    );
    let file = std::fs::read(tree("models/pnet.onnx"))?;
    let net = Kernels::load(&file, [width, height, 3], Isa::best(), Arithmetic::I16)?;
    let level: Vec<f32> = (0..width * height * 3)
        .map(|i| (i % 251) as f32 / 125.0 - 1.0)
        .collect();
    let mut group = criterion.benchmark_group("P-Net layer by layer");
    group.throughput(Throughput::Elements((width * height) as u64));
    group.bench_function(BenchmarkId::from_parameter(width * height), |bencher| {
        bencher.iter(|| net.run(1, &level));
    });
    group.finish();
    Ok(())
}

fn faces(criterion: &mut Criterion, view: &ImageView) -> Result<(), Error> {
    let face = Rect::new(800.0, 400.0, 200.0, 260.0);
    let mut group = criterion.benchmark_group("FaceNet");
    for (name, count, threads) in [("1", 1, 1), ("8", 8, 1), ("1 by two threads", 1, 2)] {
        let options = SessionOptions {
            threads,
            ..ONE_THREAD
        };
        let mut embedder = Embedder::from_file(&Embedder::default_model()?, &options, 8)?;
        let faces = vec![face; count];
        embedder.embed(view, &faces)?;
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| embedder.embed(view, &faces).map(|e| e.masks.len()).ok());
        });
    }
    group.finish();
    let crop = crop_rgb8(view, face);
    let mut masks = MaskNet::load()?;
    criterion.bench_function("mask or none", |bencher| {
        bencher.iter(|| masks.see_rgb8(&crop));
    });
    Ok(())
}

fn pixels(criterion: &mut Criterion, view: &ImageView) {
    let format = format!("{:?}", view.info().format);
    let scale = 12.0 / MIN_FACE as f32;
    let level = Resize {
        source: Rect::new(0.0, 0.0, WIDTH as f32, HEIGHT as f32),
        width: (WIDTH as f32 * scale).ceil() as usize,
        height: (HEIGHT as f32 * scale).ceil() as usize,
        filter: Filter::Area,
        border: Border::Ignore,
    };
    let mut resizer = Resizer::default();
    let mut group = criterion.benchmark_group("resize 1920×1080 to 576×324");
    group.bench_function(&format, |bencher| {
        bencher.iter(|| resizer.planes(view, &level, 0..level.height)[0][0]);
    });
    group.finish();
    let mut mipmap = Mipmap::default();
    let mut group = criterion.benchmark_group("all halves of 1920×1080");
    group.bench_function(&format, |bencher| {
        bencher.iter(|| {
            mipmap.reset();
            mipmap.make(view, HEIGHT as f32 / 12.0, 1);
        });
    });
    group.finish();
}
