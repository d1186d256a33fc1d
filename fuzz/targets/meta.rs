//! Faces as metadata of buffers that come from elsewhere: regions of interest with params, and the JSON of
//! `MfrFacesMeta`, read by applications, moved by scalers, named and drawn.
#![no_main]

use fuzz_targets::Reader;
use fuzz_targets::networks;
use fuzz_targets::stream::{self, Chain};
use gst::prelude::*;
use gst_video::video_meta::VideoMetaTransformScale;
use gst_video::{VideoFormat, VideoInfo, VideoRegionOfInterestMeta};
use gstmfr::Face;
use gstmfr::detect;
use gstmfr::frame::geometry::{Landmarks, Point, Rect};
use gstmfr::plugin::meta::{self, Identity, MIRROR, MIRROR_FIELD, Mask};
use libfuzzer_sys::fuzz_target;

const WIDTH: u32 = 96;
const HEIGHT: u32 = 64;

/// Regions of interest of a buffer at most, of any type.
const MOST_REGIONS: usize = 6;
const MOST_PARAMS: usize = 5;

fn pixels() -> Vec<u8> {
    (0..WIDTH * HEIGHT * 3)
        .map(|i| (i * 7 % 251) as u8)
        .collect()
}

/// Names of params that are read, and of one that is not.
const PARAMS: [&str; 6] = [
    "detection",
    "keypoints",
    "object_id",
    "identity",
    "mask",
    "other",
];

/// Names of all fields that are read, and of one that is not.
const FIELDS: [&str; 16] = [
    "x",
    "y",
    "w",
    "h",
    "confidence",
    "data",
    "label",
    "label_id",
    "similarity",
    "model_name",
    "model_version",
    "gallery",
    "frames_ago",
    "id",
    "dims",
    "other",
];

/// Types of fields, by the bytes that stand for them.
const INTEGER: u8 = 0;
const DOUBLE: u8 = 1;
const TEXT: u8 = 2;
const FLOATS: u8 = 3;
const SINGLE: u8 = 4;

/// Numbers of an array at most: keypoints have ten.
const MOST_NUMBERS: usize = 12;

fn param(reader: &mut Reader) -> gst::Structure {
    let mut param = gst::Structure::new_empty(PARAMS[usize::from(reader.u8()) % PARAMS.len()]);
    for _ in 0..usize::from(reader.u8()).min(FIELDS.len()) {
        let name = FIELDS[usize::from(reader.u8()) % FIELDS.len()];
        match reader.u8() {
            INTEGER => param.set(name, reader.u32() as i32),
            DOUBLE => param.set(name, reader.f64()),
            // GLib's texts end at the first of these.
            TEXT => param.set(name, reader.text().replace('\0', " ")),
            FLOATS => {
                let count = usize::from(reader.u8()).min(MOST_NUMBERS);
                let numbers = (0..count).map(|_| f32::from_bits(reader.u32()));
                param.set(name, gst::Array::new(numbers));
            }
            SINGLE => param.set(name, f32::from_bits(reader.u32())),
            _ => param.set(name, None::<String>),
        }
    }
    param
}

fn write_param(param: &gst::StructureRef, input: &mut Vec<u8>) {
    let place = |all: &[&str], name: &str| {
        let place = all.iter().position(|other| *other == name);
        place.unwrap_or(all.len() - 1) as u8
    };
    input.push(place(&PARAMS, param.name()));
    let known: Vec<_> = param
        .iter()
        .filter(|(name, _)| FIELDS.contains(&name.as_str()))
        .collect();
    input.push(known.len() as u8);
    for (name, value) in known {
        input.push(place(&FIELDS, name));
        if let Ok(number) = value.get::<i32>() {
            input.push(INTEGER);
            input.extend(number.to_le_bytes());
        } else if let Ok(number) = value.get::<f64>() {
            input.push(DOUBLE);
            input.extend(number.to_le_bytes());
        } else if let Ok(text) = value.get::<String>() {
            input.extend([TEXT, text.len() as u8]);
            input.extend(text.as_bytes());
        } else if let Ok(numbers) = value.get::<gst::ArrayRef>() {
            let numbers = numbers
                .as_slice()
                .iter()
                .filter_map(|number| number.get::<f32>().ok());
            let numbers: Vec<_> = numbers.take(MOST_NUMBERS).collect();
            input.extend([FLOATS, numbers.len() as u8]);
            input.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        } else {
            input.push(u8::MAX);
        }
    }
}

/// Adds the metadata that an input says: flags, regions of interest, and behind them the JSON.
fn add_metas(buffer: &mut gst::BufferRef, reader: &mut Reader) {
    let flags = reader.u8();
    if flags & 1 == 0 {
        gst_video::VideoMeta::add(
            buffer,
            gst_video::VideoFrameFlags::empty(),
            VideoFormat::Rgb,
            WIDTH,
            HEIGHT,
        )
        .expect("a meta that fits");
    }
    let regions = usize::from(reader.u8()).min(MOST_REGIONS);
    for _ in 0..regions {
        let kind = if reader.u8() == 0 {
            "person"
        } else {
            meta::ROI_TYPE
        };
        let id = i32::from(reader.u16() as i16);
        let is_small = reader.u8() > 0;
        let [x, y, width, height] = [(); 4].map(|()| match is_small {
            true => reader.u8().into(),
            false => reader.u32(),
        });
        let mut region = VideoRegionOfInterestMeta::add(buffer, kind, (x, y, width, height));
        region.set_id(id);
        for _ in 0..usize::from(reader.u8()).min(MOST_PARAMS) {
            region.add_param(param(reader));
        }
    }
    if flags & 2 == 0 {
        let rest = String::from_utf8_lossy(reader.bytes(usize::MAX)).replace('\0', " ");
        let mut mirror = gst::meta::CustomMeta::add(buffer, MIRROR).expect("a meta that is known");
        mirror.mut_structure().set(MIRROR_FIELD, rest);
    }
}

/// The input that says what a buffer has.
fn input_of(buffer: &gst::BufferRef) -> Vec<u8> {
    let metas: Vec<_> = buffer.iter_meta::<VideoRegionOfInterestMeta>().collect();
    let mut input = vec![0, metas.len() as u8];
    for region in metas {
        input.push(1);
        input.extend((region.id() as i16).to_le_bytes());
        input.push(0);
        let (x, y, width, height) = region.rect();
        input.extend([x, y, width, height].iter().flat_map(|v| v.to_le_bytes()));
        let params: Vec<_> = region.params().collect();
        input.push(params.len() as u8);
        for param in params {
            write_param(param, &mut input);
        }
    }
    if let Ok(mirror) = gst::meta::CustomMeta::from_buffer(buffer, MIRROR) {
        let json = mirror.structure().get::<&str>(MIRROR_FIELD);
        input.extend(json.unwrap_or_default().as_bytes());
    }
    input
}

fn seeds() -> Vec<Vec<u8>> {
    stream::init();
    let face = |x: f32, y: f32| {
        let rect = Rect::new(x, y, 30.0, 40.0);
        let points = [
            (8.0, 12.0),
            (22.0, 12.0),
            (15.0, 20.0),
            (9.0, 30.0),
            (21.0, 30.0),
        ];
        let points = points.map(|(dx, dy)| Point {
            x: x + dx,
            y: y + dy,
        });
        detect::Face {
            rect,
            confidence: 0.99,
            landmarks: Landmarks(points),
        }
    };
    let identity = |label: &str, label_id| Identity {
        label: label.into(),
        label_id,
        confidence: 0.9,
        similarity: 0.7,
        model_name: "facenet".into(),
        model_version: "1".into(),
        gallery: "gallery.npz".into(),
        frames_ago: 0,
    };
    let mask = Mask {
        label: "with_mask".into(),
        confidence: 0.8,
        model_name: "mask".into(),
    };
    let mut seeds = vec![vec![2, 0]];
    for faces in [1, 3] {
        for is_known in [false, true] {
            let mut buffer = gst::Buffer::new();
            let buffer = buffer.make_mut();
            let size = (WIDTH, HEIGHT);
            for number in 0..faces {
                let face = face(number as f32 * 25.0 - 5.0, 10.0);
                meta::add_face(buffer, &face, number + 1, size);
            }
            if is_known {
                let identities = [
                    Some(identity("Ana", 0)),
                    Some(identity(meta::UNKNOWN, -1)),
                    None,
                ];
                meta::set_identities(buffer, &identities);
                meta::set_masks(buffer, &[Some(mask.clone()), None, None]);
            }
            let found = meta::faces(buffer, size);
            meta::update_mirror(buffer, &found, size);
            let input = input_of(buffer);
            seeds.push(input.clone());
            // As a converter leaves it: the params are gone, and the mirror says it all.
            let mut bare = gst::Buffer::new();
            let bare = bare.make_mut();
            for face in &found {
                let Rect {
                    x,
                    y,
                    width,
                    height,
                } = face.rect;
                let rect = (x as u32, y as u32, width as u32, height as u32);
                VideoRegionOfInterestMeta::add(bare, meta::ROI_TYPE, rect).set_id(face.id);
            }
            meta::update_mirror(bare, &found, size);
            seeds.push(input_of(bare));
        }
    }
    seeds
}

/// Takes all metadata to a buffer of another size, as a scaler does; it has borders where the shape is another.
fn scaled(buffer: &gst::BufferRef, width: u32, height: u32) -> gst::Buffer {
    let info = |width, height| {
        VideoInfo::builder(VideoFormat::Rgb, width, height)
            .build()
            .expect("a size above 0")
    };
    let (before, after) = (info(WIDTH, HEIGHT), info(width, height));
    let mut target = gst::Buffer::new();
    {
        let target = target.make_mut();
        let scale = VideoMetaTransformScale::new(&before, &after);
        for meta in buffer.iter_meta::<gst::Meta>() {
            let _ = meta.transform(target, &scale);
        }
    }
    target
}

thread_local! {
    static CHAIN: (Chain, tempfile::TempDir) = {
        let own = tempfile::tempdir().expect("room in memory");
        networks::with_gallery(own.path());
        let folder = own.path().display();
        let chain = Chain::new(&format!(
            "mfrdetect threads=1 \
             ! mfrrecognize threads=1 model={folder}/facenet.onnx database={folder}/gallery.npz attach-embedding=true \
             ! mfroverlay show-legend=true"
        ));
        chain.send(gst::event::StreamStart::new("fuzz"));
        let info = VideoInfo::builder(VideoFormat::Rgb, WIDTH, HEIGHT).build().expect("a size above 0");
        chain.send(gst::event::Caps::new(&info.to_caps().expect("caps of a video")));
        (chain, own)
    };
}

fuzz_target!(
    init: {
        fuzz_targets::begin(seeds);
        stream::init();
    },
    |input: &[u8]| {
        let mut buffer = gst::Buffer::from_mut_slice(pixels());
        let mut reader = Reader::new(input);
        {
            let buffer = buffer.make_mut();
            buffer.set_pts(gst::ClockTime::ZERO);
            add_metas(buffer, &mut reader);
        }
        Face::iter(&buffer).for_each(drop);
        for (width, height) in [(WIDTH / 2, HEIGHT / 2), (1, 99), (4096, 64)] {
            let moved = scaled(&buffer, width, height);
            Face::iter(&moved).for_each(drop);
            meta::faces(&moved, (width, height));
        }
        CHAIN.with(|(chain, _)| {
            // Nothing of the input before may be left.
            chain.send(gst::event::FlushStart::new());
            chain.send(gst::event::FlushStop::new(true));
            chain.send(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
            chain.source.push(buffer).expect("metadata ends no stream");
        });
    }
);
