//! Caps, buffers, events and queries through `mfrdetect` and `mfroverlay`: a stream as a broken camera may send it.
#![no_main]

use fuzz_targets::Reader;
use fuzz_targets::stream::{self, Chain};
use gst::prelude::*;
use libfuzzer_sys::fuzz_target;

/// Most that a stream of one input may hold: every frame costs a search.
const MOST_STEPS: usize = 40;
const MOST_BYTES: usize = 1 << 16;

/// What comes next in a stream; the byte that stands for it.
#[derive(Clone, Copy)]
enum Step {
    Caps,
    CapsText,
    Frame,
    Gap,
    Orientation,
    Segment,
    Flush,
    StreamStart,
    Eos,
    Property,
    Qos,
    Latency,
}

impl Step {
    const ALL: [Self; 12] = [
        Self::Caps,
        Self::CapsText,
        Self::Frame,
        Self::Gap,
        Self::Orientation,
        Self::Segment,
        Self::Flush,
        Self::StreamStart,
        Self::Eos,
        Self::Property,
        Self::Qos,
        Self::Latency,
    ];
}

const FORMATS: [&str; 20] = [
    "I420",
    "NV12",
    "YV12",
    "NV21",
    "YUY2",
    "UYVY",
    "RGB",
    "BGR",
    "RGBA",
    "BGRA",
    "RGBx",
    "BGRx",
    "ARGB",
    "ABGR",
    "xRGB",
    "xBGR",
    "GRAY8",
    "GRAY16_LE",
    "P010_10LE",
    "ENCODED",
];

const ORIENTATIONS: [&str; 9] = [
    "rotate-0",
    "rotate-90",
    "rotate-180",
    "rotate-270",
    "flip-rotate-0",
    "flip-rotate-90",
    "flip-rotate-180",
    "flip-rotate-270",
    "upside down",
];

const PROPERTIES: [&str; 12] = [
    "min-face-size",
    "pnet-threshold",
    "rnet-threshold",
    "onet-threshold",
    "scale-factor",
    "max-faces",
    "inference-interval",
    "tracking",
    "inference-region",
    "show-legend",
    "line-width",
    "font-size",
];

/// A time as it may stand in a buffer or an event.
fn time(reader: &mut Reader, last: &mut u64) -> Option<gst::ClockTime> {
    let nanoseconds = match reader.u8() {
        0 => return None,
        1 => reader.u64(),
        // Near the end of what there is.
        2 => u64::MAX - 1 - u64::from(reader.u8()),
        3 => last.saturating_sub(u64::from(reader.u16()) * 1_000_000),
        milliseconds => last.saturating_add(u64::from(milliseconds) * 1_000_000),
    };
    *last = nanoseconds;
    gst::ClockTime::try_from(nanoseconds).ok()
}

/// Adds a `GstVideoMeta` as an element may that does not count: the safe binding refuses those that do not fit.
fn add_video_meta(buffer: &mut gst::BufferRef, info: &gst_video::VideoInfo, reader: &mut Reader) {
    let mut offsets = [0usize; 4];
    let mut strides = [0i32; 4];
    for plane in 0..info.n_planes() as usize {
        offsets[plane] = info.offset()[plane];
        strides[plane] = info.stride()[plane];
        match reader.u8() {
            0 => strides[plane] = -strides[plane],
            1 => strides[plane] = reader.u32() as i32,
            2 => offsets[plane] = reader.u64() as usize,
            3 => offsets[plane] = usize::from(reader.u16()),
            4 => {
                let rows = info.height().saturating_sub(1) as usize;
                offsets[plane] += rows.saturating_mul(strides[plane].unsigned_abs() as usize);
                strides[plane] = -strides[plane];
            }
            _ => {}
        }
    }
    let (width, height) = match reader.u8() {
        0 => (u32::from(reader.u16()), u32::from(reader.u16())),
        _ => (info.width(), info.height()),
    };
    // SAFETY: the buffer is writable, and the arrays have as many numbers as a meta has planes.
    unsafe {
        use gst::glib::translate::IntoGlib;
        gst_video::ffi::gst_buffer_add_video_meta_full(
            buffer.as_mut_ptr(),
            gst_video::ffi::GST_VIDEO_FRAME_FLAG_NONE,
            info.format().into_glib(),
            width,
            height,
            info.n_planes(),
            &offsets,
            &strides,
        );
    }
}

struct Stream {
    chain: Chain,
    info: Option<gst_video::VideoInfo>,
    time: u64,
}

impl Stream {
    fn new() -> Self {
        let chain = Chain::new("mfrdetect threads=1 min-face-size=20 ! mfroverlay");
        chain.send(gst::event::StreamStart::new("fuzz"));
        Self {
            chain,
            info: None,
            time: 0,
        }
    }

    fn set_caps(&mut self, caps: &gst::Caps) {
        if !caps.is_fixed() {
            return;
        }
        if self.chain.send(gst::event::Caps::new(caps)) {
            self.info = gst_video::VideoInfo::from_caps(caps).ok();
        }
        // Every stream has one before its first buffer; another may come later.
        if self
            .chain
            .source
            .sticky_event::<gst::event::Segment>(0)
            .is_none()
        {
            self.chain
                .send(gst::event::Segment::new(&gst::FormattedSegment::<
                    gst::ClockTime,
                >::new()));
        }
    }

    fn caps(&mut self, reader: &mut Reader) {
        let format = FORMATS[usize::from(reader.u8()) % FORMATS.len()];
        let is_small = reader.u8() > 0;
        let mut side = || match is_small {
            true => i32::from(reader.u8() % 97),
            false => reader.u32() as i32,
        };
        let (width, height) = (side(), side());
        let fraction = |reader: &mut Reader| match reader.u8() {
            0 => gst::Fraction::new(reader.u32() as i32, (reader.u32() as i32).max(1)),
            1 => gst::Fraction::new(0, 1),
            number => gst::Fraction::new(i32::from(number), 1),
        };
        let mut caps = gst::Caps::builder("video/x-raw")
            .field("format", format)
            .field("width", width)
            .field("height", height)
            .field("framerate", fraction(reader));
        match reader.u8() {
            1 => caps = caps.field("colorimetry", "bt2020"),
            2 => caps = caps.field("colorimetry", "1:4:5:1"),
            3 => caps = caps.field("pixel-aspect-ratio", fraction(reader)),
            4 => caps = caps.field("interlace-mode", "interleaved"),
            5 => caps = caps.field("interlace-mode", "alternate"),
            6 => caps = caps.field("colorimetry", reader.text()),
            _ => {}
        }
        self.set_caps(&caps.build());
    }

    fn frame(&mut self, reader: &mut Reader) {
        let expected = self.info.as_ref().map_or(0, |info| info.size());
        let size = match reader.u8() {
            0 => usize::from(reader.u16()),
            1 => expected.saturating_sub(usize::from(reader.u8())),
            _ => expected,
        };
        let (seed, slope) = (reader.u8(), usize::from(reader.u8()));
        let size = size.min(MOST_BYTES);
        let pixels = (0..size).map(|i| seed.wrapping_add((i * slope / 16) as u8));
        let mut buffer = gst::Buffer::from_mut_slice(pixels.collect::<Vec<u8>>());
        {
            let buffer = buffer.make_mut();
            buffer.set_pts(time(reader, &mut self.time));
            buffer.set_duration(match reader.u8() {
                0 => None,
                1 => gst::ClockTime::try_from(reader.u64()).ok(),
                milliseconds => Some(gst::ClockTime::from_mseconds(milliseconds.into())),
            });
            let flags = match reader.u8() % 8 {
                0 => gst::BufferFlags::GAP,
                1 => gst::BufferFlags::CORRUPTED,
                2 => gst::BufferFlags::DISCONT,
                _ => gst::BufferFlags::empty(),
            };
            buffer.set_flags(flags);
            if let Some(info) = &self.info
                && reader.u8() == 0
            {
                add_video_meta(buffer, info, reader);
            }
        }
        let _ = self.chain.source.push(buffer);
    }

    fn segment(&mut self, reader: &mut Reader) {
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_rate(match reader.u8() {
            // A rate of 0 or what is no number is a mistake of whoever makes the event, at which GStreamer ends.
            0 => Some(reader.f64())
                .filter(|rate| rate.is_finite() && *rate != 0.0)
                .unwrap_or(-1.0),
            _ => 1.0,
        });
        let mut last = 0;
        let start = time(reader, &mut last).unwrap_or_default();
        segment.set_start(start);
        segment.set_stop(time(reader, &mut last).filter(|stop| *stop >= start));
        segment.set_time(time(reader, &mut last));
        segment.set_position(time(reader, &mut last));
        segment.set_base(time(reader, &mut last).unwrap_or_default());
        segment.set_offset(time(reader, &mut last).unwrap_or_default());
        self.chain.send(gst::event::Segment::new(&segment));
    }

    fn property(&mut self, reader: &mut Reader) {
        let name = PROPERTIES[usize::from(reader.u8()) % PROPERTIES.len()];
        for element in self.chain.elements() {
            let Some(property) = element.find_property(name) else {
                continue;
            };
            let kind = property.value_type();
            let value = if kind == gst::glib::Type::STRING {
                // GLib's texts end at the first of these.
                reader.text().replace('\0', " ").to_value()
            } else if kind == gst::glib::Type::BOOL {
                (reader.u8() > 0).to_value()
            } else if kind == gst::glib::Type::U32 {
                u32::from(reader.u16()).to_value()
            } else {
                (f64::from(reader.u8()) / 255.0).to_value()
            };
            // Beyond its limits a property is clamped, and nothing is under test but us.
            let mut value = value;
            // SAFETY: the value is of the type of the property.
            unsafe {
                use gst::glib::translate::{ToGlibPtr, ToGlibPtrMut};
                let pspec: *const gst::glib::gobject_ffi::GParamSpec = property.to_glib_none().0;
                gst::glib::gobject_ffi::g_param_value_validate(
                    pspec.cast_mut(),
                    value.to_glib_none_mut().0,
                );
            }
            element.set_property_from_value(name, &value);
            return;
        }
    }

    fn step(&mut self, step: Step, reader: &mut Reader) {
        match step {
            Step::Caps => self.caps(reader),
            Step::CapsText => {
                // Without brackets: GStreamer's own parser meets nested structures with criticals.
                let mut text = reader.text();
                text.retain(|c| c.is_ascii_alphanumeric() || "=,:/-_. ".contains(c));
                let text = format!("video/x-raw,{text}");
                if let Ok(caps) = text.parse::<gst::Caps>() {
                    self.set_caps(&caps);
                }
            }
            Step::Frame => self.frame(reader),
            Step::Gap => {
                let start = time(reader, &mut self.time).unwrap_or_default();
                let mut last = 0;
                let duration = time(reader, &mut last);
                self.chain
                    .send(gst::event::Gap::builder(start).duration(duration).build());
            }
            Step::Orientation => {
                let text = ORIENTATIONS[usize::from(reader.u8()) % ORIENTATIONS.len()];
                let mut tags = gst::TagList::new();
                let list = tags.make_mut();
                list.add::<gst::tags::ImageOrientation>(&text, gst::TagMergeMode::Replace);
                self.chain.send(gst::event::Tag::new(tags));
            }
            Step::Segment => self.segment(reader),
            Step::Flush => {
                self.chain.send(gst::event::FlushStart::new());
                self.chain.send(gst::event::FlushStop::new(true));
                self.chain
                    .send(gst::event::Segment::new(&gst::FormattedSegment::<
                        gst::ClockTime,
                    >::new()));
            }
            Step::StreamStart => {
                self.chain.send(gst::event::StreamStart::new("fuzz again"));
            }
            Step::Eos => {
                self.chain.send(gst::event::Eos::new());
            }
            Step::Property => self.property(reader),
            Step::Qos => {
                // GStreamer's base class takes an event without a time, or of before its beginning, for a mistake.
                let timestamp = time(reader, &mut self.time).unwrap_or_default();
                let earliest = i64::try_from(timestamp.nseconds()).unwrap_or(i64::MAX);
                let kind = [gst::QOSType::Overflow, gst::QOSType::Underflow];
                let kind = kind[usize::from(reader.u8() % 2)];
                let proportion = f64::from(reader.u8()) / 16.0;
                let jitter = (reader.u64() as i64).max(-earliest);
                let event = gst::event::Qos::builder(kind, proportion, jitter);
                self.chain
                    .sink
                    .push_event(event.timestamp(timestamp).build());
            }
            Step::Latency => {
                let is_live = reader.u8() & 1 > 0;
                let min = reader.u64();
                let max = (reader.u8() > 0).then(|| reader.u64().max(min));
                *self.chain.latency.lock().expect("no panic before") = (is_live, min, max);
                let mut query = gst::query::Latency::new();
                self.chain.sink.peer_query(&mut query);
            }
        }
    }
}

fn byte(step: Step) -> u8 {
    step as u8
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    // Frames of every format, 32×24 pixels, 40 ms after one another.
    for format in 0..FORMATS.len() as u8 {
        let mut seed = vec![byte(Step::Caps), format, 1, 32, 24, 25, 0];
        for number in 0..3 {
            seed.extend([byte(Step::Frame), 2, number * 50, 3 + number, 40, 40, 7, 1]);
        }
        seeds.push(seed);
    }
    let caps = |text: &str| [&[byte(Step::CapsText), text.len() as u8], text.as_bytes()].concat();
    let frame = [byte(Step::Frame), 2, 9, 7, 40, 40, 7, 1];
    let i420 = caps("format=I420,width=64,height=48,framerate=30/1");
    for orientation in 0..ORIENTATIONS.len() as u8 {
        seeds.push(
            [
                &i420[..],
                &[byte(Step::Orientation), orientation],
                &frame,
                &frame,
            ]
            .concat(),
        );
    }
    let gap = [byte(Step::Gap), 40, 40];
    let flush = [byte(Step::Flush)];
    let eos = [byte(Step::Eos)];
    let mut latency = vec![byte(Step::Latency), 1];
    latency.extend(100_000_000u64.to_le_bytes());
    latency.push(0);
    let mut qos = vec![byte(Step::Qos), 40, 0, 16];
    qos.extend(30_000_000u64.to_le_bytes());
    let text = "0,0,32,24; 10,10,20,20";
    let region = [
        &[byte(Step::Property), 8, text.len() as u8],
        text.as_bytes(),
    ]
    .concat();
    let segment = [byte(Step::Segment), 1, 10, 200, 10, 10, 0, 0];
    seeds.push([&i420, &frame[..], &gap, &frame, &flush, &frame, &eos].concat());
    seeds.push([&latency, &i420, &frame[..], &frame, &qos, &frame, &latency].concat());
    seeds.push([&i420, &region, &frame[..], &segment, &frame].concat());
    // Rows from the bottom to the top.
    let bottom_up = [byte(Step::Frame), 2, 9, 7, 40, 40, 7, 0, 4, 4, 4, 1];
    seeds.push([&i420, &bottom_up[..], &bottom_up].concat());
    seeds.push(
        [
            &caps("format=RGB,width=30,height=31"),
            &bottom_up[..],
            &frame,
        ]
        .concat(),
    );
    seeds
}

fuzz_target!(
    init: {
        fuzz_targets::begin(seeds);
        stream::init();
    },
    |input: &[u8]| {
        let mut stream = Stream::new();
        let mut reader = Reader::new(input);
        for _ in 0..MOST_STEPS {
            if reader.is_empty() {
                break;
            }
            let step = Step::ALL[usize::from(reader.u8()) % Step::ALL.len()];
            stream.step(step, &mut reader);
        }
    }
);
