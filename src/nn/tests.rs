//! Tests of whole networks: our kernels against ONNX Runtime, every instruction set against the scalar one, layer by
//! layer, and corrupted files.

use super::buffer::Buffer;
use super::row_stream::{Cell, Rings, output_size, rows_seen};
use super::*;

const FILES: [(Role, &[u8]); 4] = [
    (Role::PNet, include_bytes!("../../models/pnet.onnx")),
    (Role::RNet, include_bytes!("../../models/rnet.onnx")),
    (Role::ONet, include_bytes!("../../models/onet.onnx")),
    (Role::MaskNet, include_bytes!("../../models/mask.onnx")),
];

fn file(role: Role) -> Bytes {
    match FILES.iter().find(|(other, _)| *other == role) {
        Some((_, bytes)) => Bytes::from_static(bytes),
        None => {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/facenet.onnx");
            Bytes::from(std::fs::read(path).unwrap())
        }
    }
}

/// The network for an instruction set, with the arithmetic of its role, or float32 if that is faster.
fn planned(role: Role, isa: Isa) -> Planned {
    Planned::new(role, &Model::decode(file(role)).unwrap(), isa).unwrap()
}

fn rows(isa: Isa) -> RowStream {
    let fused = import(Role::PNet, &Model::decode(file(Role::PNet)).unwrap()).unwrap();
    RowStream::new(&fused, isa).unwrap()
}

/// A session of ONNX Runtime with the same file; `None` if ONNX Runtime is not installed.
fn session(role: Role) -> Option<Session> {
    let name = role.signature().name;
    match Session::from_bytes(
        name,
        &file(role),
        Some(&role.signature()),
        &SessionOptions::default(),
    ) {
        Err(RuntimeError::LibraryMissing { .. }) => {
            crate::skip::skip("no ONNX Runtime to compare networks with");
            None
        }
        session => Some(session.unwrap()),
    }
}

/// Every instruction set of this CPU. The missing ones are reported once, directly on stderr because the test harness
/// captures the output of passing tests, so that a successful run states what it covered.
fn levels() -> Vec<Isa> {
    static NAMED: std::sync::Once = std::sync::Once::new();
    let all = Isa::available();
    NAMED.call_once(|| {
        let mut missing = Isa::NAMES.to_vec();
        missing.retain(|name| !all.iter().any(|isa| isa.name() == *name));
        let text = format!("kernels were tested on {all:?}; this CPU has not: {missing:?}\n");
        std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
    });
    all
}

/// Pseudorandom numbers from 0 to 1.
fn noise(mut state: u32) -> impl FnMut() -> f32 {
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    }
}

/// Images of −1…1 with edges, gradients and noise at all scales.
fn images(count: usize, side: usize) -> Vec<f32> {
    let mut noise = noise(1);
    let mut all = Vec::new();
    for image in 0..count {
        let waves = [0; 6].map(|_| [noise() * 0.3, noise() * 0.3, noise() * 6.0]);
        for y in 0..side {
            for x in 0..side {
                for colour in 0..3 {
                    let wave = |(i, [a, b, c]): (usize, &[f32; 3])| {
                        let tint = ((i + colour + image) % 3) as f32 / 3.0;
                        tint * (a * x as f32 + b * y as f32 + c).sin()
                    };
                    let value: f32 = waves.iter().enumerate().map(wave).sum();
                    all.push((value * 0.6 + noise() * 0.2 - 0.1).clamp(-1.0, 1.0));
                }
            }
        }
    }
    all
}

/// Images with columns as the first axis.
fn transposed(images: &[f32], side: usize) -> Vec<f32> {
    let count = images.len() / (side * side * 3);
    (0..count * side * side)
        .flat_map(|i| {
            let (image, x, y) = (i / (side * side), i / side % side, i % side);
            let at = ((image * side + y) * side + x) * 3;
            [images[at], images[at + 1], images[at + 2]]
        })
        .collect()
}

fn side(role: Role) -> usize {
    role.item()[0]
}

fn outputs(net: &Planned, threads: usize, input: &[f32]) -> Vec<Vec<f32>> {
    let mut outputs = vec![Vec::new(); net.widths().count()];
    // The first run only fills the workspace, whose contents must not affect the second one.
    net.run(threads, input, &mut outputs);
    outputs.iter_mut().for_each(Vec::clear);
    net.run(threads, input, &mut outputs);
    outputs
}

fn difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(
        a.iter().map(Vec::len).sum::<usize>(),
        b.iter().map(Vec::len).sum::<usize>()
    );
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.fold(0.0, |most, (a, b)| (a - b).abs().max(most))
}

#[test]
fn our_kernels_say_what_onnx_runtime_makes_of_each_file() {
    // Tolerances: sums of a thousand float32 products in another order, such as FaceNet's last layer, whose quantised
    // inputs are identical; larger ones for i16 pairs, which are rounded.
    for (role, tolerance) in [
        (Role::RNet, 2e-3),
        (Role::ONet, 2e-3),
        (Role::MaskNet, 1e-4),
        (Role::FaceNet, 1e-5),
    ] {
        let Some(mut session) = session(role) else {
            return;
        };
        let side = side(role);
        let upright = images(3, side);
        let given = match role.axes() {
            Axes::ColumnsFirst => transposed(&upright, side),
            Axes::RowsFirst => upright.clone(),
        };
        let ran = session.run([3, side, side, 3], &given).unwrap();
        let expected: Vec<_> = (0..role.signature().outputs.len())
            .map(|i| ran.get(i).unwrap().1.to_vec())
            .collect();
        for isa in levels() {
            let found = outputs(&planned(role, isa), 1, &upright);
            let found = difference(&found, &expected);
            assert!(found < tolerance, "{role:?} {isa:?}: {found}");
        }
    }
}

#[test]
fn every_layer_of_every_instruction_set_is_that_of_the_scalar_one() {
    for role in [Role::FaceNet, Role::RNet, Role::ONet, Role::MaskNet] {
        let input = images(1, side(role));
        let scalar = planned(role, Isa::Scalar);
        let expected = exec::trace(&scalar.plan, &input);
        for isa in levels() {
            let net = planned(role, isa);
            let found = exec::trace(&net.plan, &input);
            assert_eq!(found.len(), expected.len());
            for (step, ((name, found), (_, expected))) in
                net.plan.steps.iter().zip(found.iter().zip(&expected))
            {
                let result = &net.plan.buffers[step.output];
                if result.quantization.is_some() {
                    // The message names the first layer that differs; all later ones differ too.
                    assert_eq!(found, expected, "{role:?} {isa:?} {name}");
                } else {
                    let most = of_floats(result, found, expected);
                    assert!(most < 2e-3, "{role:?} {isa:?} {name}: {most}");
                }
            }
        }
    }
}

/// Largest difference, relative to the largest value.
fn of_floats(buffer: &Buffer, a: &[i32], b: &[i32]) -> f32 {
    let [a, b]: [&[f32]; 2] = [a, b].map(pulp::bytemuck::cast_slice);
    let largest = b.iter().fold(1.0f32, |most, x| most.max(x.abs()));
    let pixels = a
        .chunks_exact(buffer.stride)
        .zip(b.chunks_exact(buffer.stride));
    let all = pixels.flat_map(|(a, b)| a.iter().zip(b).take(buffer.channels));
    all.fold(0.0f32, |most, (a, b)| (a - b).abs().max(most)) / largest
}

/// Accumulators of i16 products are exact, so instruction sets differ only in how results are scaled.
#[test]
fn sums_of_i16_are_the_same_for_every_instruction_set() {
    let levels: Vec<_> = levels()
        .into_iter()
        .filter(|isa| isa.has_fast_i16())
        .collect();
    for role in [Role::RNet, Role::ONet] {
        let mut windows = images(8, side(role));
        // The second window is dark, because each window is quantised with a scale of its own.
        let len = windows.len() / 8;
        windows[len..2 * len].iter_mut().for_each(|x| *x *= 0.01);
        let all: Vec<_> = levels
            .iter()
            .map(|&isa| outputs(&planned(role, isa), 1, &windows))
            .collect();
        for (isa, found) in levels.iter().zip(&all) {
            let found = difference(found, &all[0]);
            assert!(found < 1e-3, "{role:?} {isa:?}: {found}");
        }
    }
}

#[test]
fn a_face_does_not_depend_on_those_beside_it_nor_on_threads() {
    let net = planned(Role::FaceNet, Isa::best());
    let side = side(Role::FaceNet);
    let images = images(9, side);
    let singles = |threads: usize| -> Vec<f32> {
        let images = images.chunks(side * side * 3);
        images
            .flat_map(|image| outputs(&net, threads, image).remove(0))
            .collect()
    };
    let alone = singles(1);
    // Two or more threads split the steps of an image, unless there is one image per thread.
    assert_eq!(singles(2), alone);
    assert_eq!(singles(5), alone);
    for threads in [1, 2, 5, 20] {
        assert_eq!(outputs(&net, threads, &images)[0], alone);
    }
    assert!(outputs(&net, 2, &[])[0].is_empty());
}

#[test]
fn many_threads_run_one_network_at_once() {
    let net = planned(Role::ONet, Isa::best());
    let windows = images(4, side(Role::ONet));
    let expected = outputs(&net, 1, &windows);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(outputs(&net, 1, &windows), expected));
        }
    });
}

#[test]
fn windows_of_zeros_and_of_no_numbers_do_no_harm() {
    for role in [Role::RNet, Role::ONet, Role::MaskNet, Role::FaceNet] {
        for isa in levels() {
            let net = planned(role, isa);
            let len = side(role).pow(2) * 3;
            let mut windows = vec![0.0; 3 * len];
            windows[len] = f32::NAN;
            windows[2 * len] = f32::INFINITY;
            for output in outputs(&net, 1, &windows) {
                let first = &output[..output.len() / 3];
                assert!(first.iter().all(|x| x.is_finite()), "{role:?} {isa:?}");
            }
        }
    }
}

/// Sizes with a single output cell, odd and even ones, narrower and wider than the tiles.
const SIZES: [(usize, usize); 6] = [(12, 12), (13, 12), (12, 31), (24, 13), (47, 20), (100, 35)];

/// Planes of red, green and blue, 0…255, with noise, black and white.
fn planes(width: usize, height: usize) -> [Vec<f32>; 3] {
    [1u32, 2, 3].map(|seed| {
        let mut noise = noise(seed);
        let mut pixel = |i: usize| match (i % width < width / 2, i / width % 8 < 4) {
            (false, _) => (noise() * 255.0).floor(),
            (true, true) => 0.0,
            (true, false) => 255.0,
        };
        (0..width * height).map(&mut pixel).collect()
    })
}

fn cells(net: &RowStream, planes: &[Vec<f32>; 3], width: usize) -> Vec<Cell> {
    let (mut rings, mut found) = (Rings::default(), Vec::new());
    let planes = planes.each_ref().map(Vec::as_slice);
    net.propose(planes, width, 0, 0.0, &mut rings, &mut found);
    found
}

fn assert_cells(found: &[Cell], expected: &[Cell], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert_eq!((f.column, f.row), (e.column, e.row));
        assert!((f.score - e.score).abs() < tolerance, "{f:?} {e:?}");
        for (a, b) in f.offsets.iter().zip(e.offsets) {
            assert!((a - b).abs() < tolerance, "{f:?} {e:?}");
        }
    }
}

#[test]
fn p_net_row_by_row_says_what_onnx_runtime_makes_of_the_file() {
    let Some(mut session) = session(Role::PNet) else {
        return;
    };
    for (width, height) in SIZES {
        let planes = planes(width, height);
        let (columns, rows_of) = output_size(width, height);
        // The file expects columns as the first axis.
        let tensor: Vec<f32> = (0..width * height)
            .flat_map(|i| {
                let at = i % height * width + i / height;
                planes.each_ref().map(|colour| (colour[at] - 127.5) / 128.0)
            })
            .collect();
        let ran = session.run([1, width, height, 3], &tensor).unwrap();
        let (shape, offsets) = ran.get(0).unwrap();
        assert_eq!(shape, [1, columns as i64, rows_of as i64, 4]);
        let (_, scores) = ran.get(1).unwrap();
        let expected: Vec<_> = (0..columns * rows_of)
            .map(|i| {
                let (column, row) = (i % columns, i / columns);
                let at = column * rows_of + row;
                Cell {
                    column,
                    row,
                    score: scores[2 * at + 1],
                    offsets: std::array::from_fn(|k| offsets[4 * at + k]),
                }
            })
            .collect();
        for isa in levels() {
            // The tolerance is larger for i16 pairs, which are rounded, than for float32 sums of a hundred products.
            let tolerance = if isa.has_fast_i16() { 5e-3 } else { 1e-5 };
            assert_cells(&cells(&rows(isa), &planes, width), &expected, tolerance);
        }
    }
}

/// The reference is a layer-by-layer plan of the same graph.
#[test]
fn p_net_row_by_row_says_what_a_plan_of_its_layers_does() {
    let model = Model::decode(file(Role::PNet)).unwrap();
    for (width, height) in SIZES {
        let mut fused = fuse::fuse(&model.graph(&[width, height, 3]).unwrap()).unwrap();
        fused.exchange_rows_and_columns();
        let planes = planes(width, height);
        let tensor: Vec<f32> = (0..width * height)
            .flat_map(|at| planes.each_ref().map(|colour| (colour[at] - 127.5) / 128.0))
            .collect();
        let plan = Plan::new(&fused, Isa::Scalar, pack::Arithmetic::F32, Items::All).unwrap();
        let mut outputs = [Vec::new(), Vec::new()];
        exec::run(
            &plan,
            1,
            &mut Workspace::default(),
            &tensor,
            |output, _, values| {
                outputs[output].extend_from_slice(values);
            },
        );
        let columns = output_size(width, height).0;
        let [offsets, scores] = outputs;
        let expected: Vec<_> = offsets
            .as_chunks::<4>()
            .0
            .iter()
            .zip(scores.as_chunks::<2>().0)
            .enumerate()
            .map(|(i, (&offsets, scores))| Cell {
                column: i % columns,
                row: i / columns,
                score: scores[1],
                offsets,
            })
            .collect();
        assert_cells(&cells(&rows(Isa::Scalar), &planes, width), &expected, 1e-5);
        for isa in levels() {
            assert_cells(&cells(&rows(isa), &planes, width), &expected, 5e-3);
        }
    }
}

#[test]
fn strips_of_an_image_give_what_the_whole_gives() {
    let (width, height) = (40, 61);
    let planes = planes(width, height);
    for isa in levels() {
        let net = rows(isa);
        let whole = cells(&net, &planes, width);
        let (mut rings, mut strips) = (Rings::default(), Vec::new());
        let count = output_size(width, height).1;
        for start in (0..count).step_by(7) {
            let seen = rows_seen(start..(start + 7).min(count), height);
            let part = planes
                .each_ref()
                .map(|c| &c[seen.start * width..seen.end * width]);
            net.propose(part, width, start, 0.0, &mut rings, &mut strips);
        }
        assert!(!whole.is_empty());
        assert_eq!(whole, strips);
    }
}

#[test]
fn each_file_is_refused_as_another_network() {
    for wanted in Role::ALL {
        for given in Role::ALL {
            let model = Model::decode(file(given)).unwrap();
            let found = import(wanted, &model);
            assert_eq!(found.is_ok(), wanted == given, "{given:?} as {wanted:?}");
            assert_eq!(Role::of(&model.inputs(), &model.outputs()), Some(given));
        }
    }
    assert!(Model::decode(Bytes::from_static(b"no ONNX file")).is_err());
    assert!(Model::decode(file(Role::FaceNet).slice(..1_000_000)).is_err());
}

/// Most of the files are refused; the others are valid but different networks.
#[test]
fn files_with_wrong_bytes_do_no_harm() {
    let mut noise = noise(1);
    let mut below = |limit: usize| (noise() * limit as f32) as usize;
    for (role, files) in [
        (Role::FaceNet, 100),
        (Role::RNet, 400),
        (Role::ONet, 200),
        (Role::MaskNet, 1000),
        (Role::PNet, 1000),
    ] {
        let whole = file(role).to_vec();
        let mut ran = 0;
        for _ in 0..files {
            let mut bytes = whole.clone();
            // Operators come before weights, so only the first part of the file is corrupted.
            for _ in 0..=below(3) {
                let at = below(bytes.len().min(120_000));
                bytes[at] = below(256) as u8;
            }
            let Ok(model) = Model::decode(Bytes::from(bytes)) else {
                continue;
            };
            if role == Role::PNet {
                if let Ok(fused) = import(role, &model)
                    && let Ok(net) = RowStream::new(&fused, Isa::best())
                {
                    ran += usize::from(!cells(&net, &planes(24, 13), 24).is_empty());
                }
            } else if let Ok(net) = Planned::new(role, &model, Isa::best()) {
                outputs(&net, 1, &images(1, side(role)));
                ran += 1;
            }
        }
        println!("{role:?}: {ran} of {files} ran");
    }
}
