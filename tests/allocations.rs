//! Allocations per frame once the detector is warm: none if there is nothing to find, otherwise short lists of
//! candidates and faces, and never anything of the size of an image.
//!
//! Only Rust's allocations on the calling thread are counted. ONNX Runtime, where it embeds, has an allocator of its
//! own.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::{Mutex, MutexGuard};

use gstmfr::detect::{Detector, Params};
use gstmfr::embed::Embedder;
use gstmfr::frame::geometry::Rect;
use gstmfr::frame::image::{Colorimetry, ImageInfo, ImageView, PixelFormat, Plane};
use gstmfr::nn::{Device, SessionOptions};

const ONE_THREAD: SessionOptions = SessionOptions {
    device: Device::Cpu,
    threads: 1,
};

/// Number and size of allocations.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    times: usize,
    bytes: usize,
    /// Size of the largest allocation in bytes.
    largest: usize,
}

thread_local! {
    static COUNT: Cell<Option<Count>> = const { Cell::new(None) };
}

struct Counter;

impl Counter {
    fn note(size: usize) {
        // While a thread ends, its counter no longer exists.
        let _ = COUNT.try_with(|count| {
            if let Some(mut so_far) = count.get() {
                so_far.times += 1;
                so_far.bytes += size;
                so_far.largest = so_far.largest.max(size);
                count.set(Some(so_far));
            }
        });
    }
}

// SAFETY: all calls are passed to the system's allocator, and counting does not allocate.
unsafe impl GlobalAlloc for Counter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: the caller's guarantees are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: the caller's guarantees are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(size);
        // SAFETY: the caller's guarantees are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's guarantees are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTER: Counter = Counter;

/// Runs tests one after another: the detectors of a process share networks and their scratch buffers, and one that
/// runs concurrently with another for the first time allocates buffers of its own.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Allocations of a call on this thread after warm-up calls.
fn allocations(mut work: impl FnMut()) -> Count {
    for _ in 0..3 {
        work();
    }
    COUNT.set(Some(Count::default()));
    work();
    COUNT.take().unwrap()
}

/// A frame as decoded, grey except for pasted images.
struct Frame {
    info: ImageInfo,
    planes: Vec<Vec<u8>>,
}

impl Frame {
    fn grey(format: PixelFormat, width: usize, height: usize) -> Self {
        let info = ImageInfo {
            width,
            height,
            format,
            colorimetry: Colorimetry::default(),
        };
        let size = |p| format.row_bytes(p, width) * format.rows(p, height);
        let planes = (0..format.planes()).map(|p| vec![128; size(p)]).collect();
        Self { info, planes }
    }

    /// A frame with the demo photo three times, in grey.
    fn with_faces(format: PixelFormat, width: usize, height: usize) -> Self {
        let mut frame = Self::grey(format, width, height);
        let photo = image::open(common::photo("astronaut.png")).unwrap();
        let photo = photo.to_luma8();
        let stride = format.row_bytes(0, width);
        for component in format.channels() {
            // Chroma stays neutral, at its middle value.
            if component.plane > 0 || component.shift_x > 0 {
                continue;
            }
            for (x, y, pixel) in photo.enumerate_pixels() {
                for left in [0, 600, 1300] {
                    let column = (left + x as usize) * component.step + component.offset;
                    frame.planes[0][y as usize * stride + column] = pixel.0[0];
                }
            }
        }
        frame
    }

    fn view(&self) -> ImageView<'_> {
        let format = self.info.format;
        let planes: Vec<_> = (self.planes.iter().enumerate())
            .map(|(p, data)| Plane {
                data,
                stride: format.row_bytes(p, self.info.width),
            })
            .collect();
        ImageView::new(self.info, &planes).unwrap()
    }
}

const FORMATS: [PixelFormat; 5] = [
    PixelFormat::Nv12,
    PixelFormat::I420,
    PixelFormat::Rgb,
    PixelFormat::Bgrx,
    PixelFormat::Yuy2,
];

#[test]
fn a_frame_in_which_nothing_is_found_allocates_nothing() {
    let _alone = alone();
    for format in FORMATS {
        let frame = Frame::grey(format, 1920, 1080);
        let view = frame.view();
        let mut detector = Detector::built_in(&ONE_THREAD).unwrap();
        let params = Params::default();
        let count = allocations(|| assert_eq!(detector.detect(&view, &params).unwrap(), []));
        assert_eq!(count, Count::default(), "{format:?}");
    }
}

/// Lists of candidates grow with their number: three faces take 74 allocations of 176 kB in total, the largest of
/// 15 kB. The image has 3.1 MB in its smallest format, the finest pyramid level 187 kB per channel.
#[test]
fn a_frame_with_faces_allocates_short_lists_only() {
    let _alone = alone();
    for format in FORMATS {
        let frame = Frame::with_faces(format, 1920, 1080);
        let view = frame.view();
        let mut detector = Detector::built_in(&ONE_THREAD).unwrap();
        let params = Params::default();
        let mut found = Vec::new();
        let count = allocations(|| found = detector.detect(&view, &params).unwrap());
        assert!(found.len() >= 3, "{format:?}: {found:?}");
        assert!(count.times <= 150, "{format:?}: {count:?}");
        assert!(count.largest <= 64 << 10, "{format:?}: {count:?}");
        assert!(count.bytes <= 512 << 10, "{format:?}: {count:?}");
    }
}

/// The allocations are the returned faces and embeddings: a few hundred bytes per face, and 2 kB per embedding.
#[test]
fn following_and_embedding_faces_allocate_what_they_give_back() {
    let _alone = alone();
    let frame = Frame::with_faces(PixelFormat::Nv12, 1920, 1080);
    let view = frame.view();
    let mut detector = Detector::built_in(&ONE_THREAD).unwrap();
    let found = detector.detect(&view, &Params::default()).unwrap();
    let places: Vec<Rect> = found.iter().map(|face| face.rect).collect();
    let count = allocations(|| {
        detector.follow(&view, &places).unwrap();
    });
    assert!(
        count.times <= 6 && count.bytes <= 512 * places.len(),
        "{count:?}"
    );
    let model = common::models().join("facenet.onnx");
    let mut embedder = Embedder::from_file(&model, &ONE_THREAD, 4).unwrap();
    let count = allocations(|| {
        embedder.embed(&view, &places).unwrap();
    });
    assert!(
        count.times <= 16 && count.bytes <= 8192 * places.len(),
        "{count:?}"
    );
}

/// Helper threads are requested once for all steps of a network, which takes a few allocations; sharing the more than
/// a hundred steps of FaceNet takes none.
#[test]
fn steps_that_threads_share_allocate_nothing() {
    let _alone = alone();
    let frame = Frame::grey(PixelFormat::Nv12, 640, 480);
    let view = frame.view();
    let places = [Rect::new(200.0, 100.0, 160.0, 200.0)];
    let model = common::models().join("facenet.onnx");
    let count = |threads| {
        let options = SessionOptions {
            threads,
            ..ONE_THREAD
        };
        let mut embedder = Embedder::from_file(&model, &options, 1).unwrap();
        allocations(|| {
            embedder.embed(&view, &places).unwrap();
        })
    };
    let (alone, shared) = (count(1), count(2));
    assert!(
        shared.times <= alone.times + 16,
        "{alone:?} alone, {shared:?} shared"
    );
}
