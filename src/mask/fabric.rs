//! What a mask is made of: its colours and patterns, and the relief of its folds and seams.
//!
//! Places on the cloth are measured from the middle of its upper edge, in distances between the
//! eyes: `s` to the right, `t` down.

use super::MaskType;
use super::maths::{Random, Vec3, bell, cell, floor, lerp, mix, noise, scale, sin_cos, smoothstep};
use super::shape::Style;

/// Reflected part of red, green and blue light.
type Albedo = Vec3;

/// A colour as people write it.
fn paint(rgb: [u8; 3]) -> Albedo {
    rgb.map(|v| super::photo::intensity(v).max(0.004))
}

/// A mask's cloth.
#[derive(Debug, Clone)]
pub struct Fabric {
    half_width: f32,
    height: f32,
    ground: Albedo,
    pattern: Pattern,
    /// Uneven dye and threads: how much, and over which length.
    mottle: f32,
    mottle_length: f32,
    /// Another colour along the edges, and its width.
    trim: Option<(Albedo, f32)>,
    pub strap: Albedo,
    pub strap_width: f32,
    features: Vec<Feature>,
    valve: Option<Valve>,
    print: Option<Print>,
    seed: u64,
}

#[derive(Debug, Clone)]
enum Pattern {
    Plain,
    /// Across a direction: period, part of it that is coloured, colour.
    Stripes {
        across: (f32, f32),
        period: f32,
        part: f32,
        colour: Albedo,
    },
    /// Woven in both directions, darker where they cross.
    Checks {
        along: (f32, f32),
        period: f32,
        part: f32,
        colour: Albedo,
        /// A thin line in the middle of each field.
        line: Option<Albedo>,
    },
    Dots {
        period: f32,
        radius: f32,
        colour: Albedo,
        /// How irregular they are.
        loose: f32,
    },
    /// Patches of two more colours: flowers, clouds, camouflage.
    Patches {
        length: f32,
        colours: [Albedo; 2],
        share: f32,
        hard: f32,
    },
    /// Darker or lighter towards the chin.
    Gradient {
        colour: Albedo,
    },
}

/// What gives a mask its relief.
#[derive(Debug, Clone)]
enum Feature {
    /// A pleat across the mask at a height 0…1; it opens in the middle.
    Pleat { at: f32, depth: f32, sag: f32 },
    /// A wrinkle from place to place.
    Fold {
        from: (f32, f32),
        to: (f32, f32),
        bend: f32,
        width: f32,
        depth: f32,
    },
    /// A line along the middle from edge to edge.
    Seam { width: f32, depth: f32 },
    /// A line along an edge, so far from it.
    Hem {
        distance: f32,
        width: f32,
        depth: f32,
    },
    /// A line along either side, so far from its edge.
    Side { distance: f32, depth: f32 },
    /// The wire in the upper edge.
    Wire { length: f32, at: f32, depth: f32 },
    /// Rings or ribs across a cup.
    Ribs { period: f32, depth: f32 },
    /// Unevenness of the cloth as it hangs: so long across and down.
    Slack { lengths: (f32, f32), depth: f32 },
    /// Small folds at the sides, where the cloth is gathered.
    Gather { period: f32, depth: f32 },
    /// Lines pressed into each half, from the nose down to the corner.
    Weld { slope: f32, at: f32, depth: f32 },
}

#[derive(Debug, Clone)]
struct Valve {
    at: (f32, f32),
    radius: f32,
    colour: Albedo,
}

/// A few letters or a badge, too small to be read.
#[derive(Debug, Clone)]
struct Print {
    at: (f32, f32),
    size: (f32, f32),
    colour: Albedo,
    letters: f32,
}

impl Fabric {
    pub fn new(mask: MaskType, style: Style, extent: (f32, f32), random: &mut Random) -> Self {
        let (half_width, height) = extent;
        let ground = ground(mask, random);
        let white = paint([240, 240, 238]);
        let mut fabric = Self {
            half_width,
            height,
            ground,
            pattern: Pattern::Plain,
            mottle: random.range(0.01, 0.04),
            mottle_length: random.range(0.03, 0.08),
            trim: None,
            strap: if random.chance(0.7) { white } else { ground },
            strap_width: random.range(0.035, 0.075),
            features: Vec::new(),
            valve: None,
            print: None,
            seed: random.bits(),
        };
        if mask == MaskType::Cloth {
            fabric.pattern = pattern(ground, random);
        }
        if mask == MaskType::Black || (luminous(ground) < 0.05 && random.chance(0.8)) {
            fabric.strap = ground;
        }
        match style {
            Style::Pleated => fabric.pleated(random),
            Style::Folded => fabric.folded(random),
            Style::Cup => fabric.cup(random),
            Style::Sewn => fabric.sewn(random),
            Style::Moulded => fabric.moulded(random),
        }
        if matches!(mask, MaskType::Cloth | MaskType::Black) && random.chance(0.15) {
            fabric.print = Some(print(ground, half_width, height, random));
        }
        fabric
    }

    fn pleated(&mut self, random: &mut Random) {
        let count = if random.chance(0.8) { 3 } else { 2 };
        for i in 0..count {
            self.features.push(Feature::Pleat {
                at: random.about(0.3 + 0.42 * i as f32 / (count - 1) as f32, 0.05),
                depth: random.range(0.01, 0.1),
                sag: random.about(-0.03, 0.06),
            });
        }
        for from_top in [true, false] {
            let distance = random.range(0.07, 0.12);
            self.features.push(Feature::Hem {
                distance: if from_top { distance } else { -distance },
                width: 0.02,
                depth: 0.008,
            });
        }
        if random.chance(0.8) {
            self.features.push(Feature::Wire {
                length: random.range(0.5, 0.7),
                at: random.range(0.03, 0.07),
                depth: random.range(0.006, 0.016),
            });
        }
        if random.chance(0.3) {
            self.trim = Some((mix(self.ground, [0.9; 3], 0.5), random.range(0.03, 0.07)));
        }
        self.sides(random, 0.85);
        self.slack(random, 1.0);
        self.gather(random);
        self.folds(random, 8, 0.025);
    }

    fn folded(&mut self, random: &mut Random) {
        self.features.push(Feature::Seam {
            width: random.range(0.02, 0.04),
            depth: random.range(0.01, 0.03),
        });
        for slope in [random.range(0.3, 0.9), random.range(-0.9, -0.3)] {
            self.features.push(Feature::Weld {
                slope,
                at: random.range(0.15, 0.45),
                depth: random.range(0.004, 0.012),
            });
        }
        self.features.push(Feature::Wire {
            length: random.range(0.3, 0.6),
            at: random.range(0.06, 0.12),
            depth: random.range(0.01, 0.03),
        });
        self.edges(random, 0.5);
        self.slack(random, 0.7);
        self.folds(random, 3, 0.014);
        if random.chance(0.6) {
            self.print = Some(print(self.ground, self.half_width, self.height, random));
        }
        if random.chance(0.15) {
            self.valve = Some(valve(self.ground, self.half_width, self.height, random));
        }
    }

    fn cup(&mut self, random: &mut Random) {
        if random.chance(0.55) {
            self.valve = Some(valve(self.ground, self.half_width, self.height, random));
        }
        if random.chance(0.4) {
            self.features.push(Feature::Ribs {
                period: random.range(0.14, 0.3),
                depth: random.range(0.002, 0.007),
            });
        }
        if random.chance(0.4) {
            for at in [0.33, 0.68] {
                self.features.push(Feature::Pleat {
                    at: random.about(at, 0.06),
                    depth: random.range(0.01, 0.03),
                    sag: random.about(-0.05, 0.1),
                });
            }
        }
        self.features.push(Feature::Wire {
            length: random.range(0.4, 0.6),
            at: random.range(0.07, 0.12),
            depth: random.range(0.01, 0.025),
        });
        self.edges(random, 1.0);
        self.slack(random, 0.25);
        let bands = [
            [235, 200, 40],
            [60, 110, 190],
            [240, 240, 240],
            [40, 40, 45],
        ];
        self.strap = paint(random.pick([240, 240, 235], &bands));
        self.strap_width = random.range(0.06, 0.11);
        if self.valve.is_none() && random.chance(0.5) {
            self.print = Some(print(self.ground, self.half_width, self.height, random));
        }
    }

    fn sewn(&mut self, random: &mut Random) {
        if random.chance(0.65) {
            self.features.push(Feature::Seam {
                width: random.range(0.015, 0.03),
                depth: random.range(0.008, 0.025),
            });
        }
        if random.chance(0.25) {
            let colours = [[20, 20, 22], [30, 40, 80], [230, 228, 220]];
            self.trim = Some((
                paint(random.pick([15, 15, 15], &colours)),
                random.range(0.04, 0.08),
            ));
        }
        self.edges(random, 0.8);
        self.sides(random, 0.5);
        self.slack(random, 1.2);
        self.gather(random);
        self.folds(random, 9, 0.03);
        self.mottle = random.range(0.02, 0.12);
        self.mottle_length = random.range(0.02, 0.05);
        if random.chance(0.5) {
            self.strap = self.ground;
        }
    }

    fn moulded(&mut self, random: &mut Random) {
        self.features.push(Feature::Seam {
            width: random.range(0.012, 0.025),
            depth: random.range(0.004, 0.014),
        });
        self.slack(random, 0.3);
        self.folds(random, 3, 0.012);
        self.mottle = random.range(0.02, 0.06);
        self.mottle_length = random.range(0.015, 0.03);
        self.strap = self.ground;
        self.strap_width = random.range(0.06, 0.12);
    }

    fn sides(&mut self, random: &mut Random, share: f32) {
        if random.chance(share) {
            self.features.push(Feature::Side {
                distance: random.range(0.03, 0.09),
                depth: random.range(0.004, 0.015),
            });
        }
    }

    /// Hems along the upper and lower edge.
    fn edges(&mut self, random: &mut Random, strength: f32) {
        let distance = random.range(0.04, 0.08);
        for distance in [distance, -distance] {
            self.features.push(Feature::Hem {
                distance,
                width: 0.018,
                depth: strength * random.range(0.004, 0.012),
            });
        }
    }

    fn slack(&mut self, random: &mut Random, strength: f32) {
        for (across, down, depth) in [(0.7, 0.7, 0.1), (0.35, 0.28, 0.035), (0.4, 0.07, 0.007)] {
            self.features.push(Feature::Slack {
                lengths: (
                    across * random.range(0.7, 1.4),
                    down * random.range(0.7, 1.4),
                ),
                depth: depth * strength * random.range(0.2, 1.0),
            });
        }
    }

    fn gather(&mut self, random: &mut Random) {
        self.features.push(Feature::Gather {
            period: random.range(0.05, 0.14),
            depth: random.range(0.0, 0.03),
        });
    }

    /// Wrinkles: most begin at a corner, where the strap pulls.
    fn folds(&mut self, random: &mut Random, most: usize, depth: f32) {
        for _ in 0..random.below(most + 1) {
            let side = if random.chance(0.5) { 1.0 } else { -1.0 };
            let from = (
                side * self.half_width * random.range(0.7, 1.0),
                self.height
                    * if random.chance(0.5) {
                        random.range(0.0, 0.25)
                    } else {
                        random.range(0.7, 1.0)
                    },
            );
            let to = (
                side * self.half_width * random.range(0.0, 0.55),
                self.height * random.range(0.2, 0.85),
            );
            self.features.push(Feature::Fold {
                from,
                to,
                bend: random.about(0.0, 0.15),
                width: random.range(0.025, 0.08),
                depth: depth * random.range(-1.0, 1.0),
            });
        }
    }

    /// Height of the cloth's surface at a place, and how deep in a fold it is (0…1).
    pub fn relief(&self, s: f32, t: f32) -> (f32, f32) {
        let (u, v) = (s / self.half_width, t / self.height);
        let mut height = 0.0;
        let mut fold = 0.0f32;
        for (i, feature) in self.features.iter().enumerate() {
            let seed = self.seed.wrapping_add(i as u64);
            match *feature {
                Feature::Pleat { at, depth, sag } => {
                    let line = at + sag * u * u + 0.01 * noise(u * 1.8, at * 9.0, seed);
                    let d = (v - line) * self.height;
                    // Closed at the sides, where it is welded, and here and there.
                    let open = depth
                        * (1.0 - 0.6 * u * u)
                        * (1.0 + 0.5 * noise(u * 2.0 + 3.0, at * 5.0, seed));
                    // A slow rise down to the edge of the pleat, and a step back under it.
                    height += open * smoothstep(-0.3, -0.01, d) * smoothstep(0.08, 0.0, d);
                    fold = fold.max(bell(d - 0.03, 0.035) * (open / 0.1).clamp(0.0, 0.7));
                }
                Feature::Fold {
                    from,
                    to,
                    bend,
                    width,
                    depth,
                } => {
                    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
                    let length = (dx * dx + dy * dy).sqrt().max(1e-3);
                    let (dx, dy) = (dx / length, dy / length);
                    let along = ((s - from.0) * dx + (t - from.1) * dy) / length;
                    if (-0.1..1.1).contains(&along) {
                        let bow = bend * along * (1.0 - along) * 4.0;
                        let aside = (t - from.1) * dx - (s - from.0) * dy - bow * length;
                        let fade = smoothstep(-0.1, 0.15, along) * smoothstep(1.1, 0.6, along);
                        height += depth * fade * bell(aside, width * 1.5);
                        if depth < 0.0 {
                            fold = fold.max(-depth / 0.03 * fade * bell(aside, width) * 0.6);
                        }
                    }
                }
                Feature::Seam { width, depth } => {
                    height += depth * (bell(s, width * 4.0) - 0.6 * bell(s, width * 0.8));
                    fold = fold.max(0.6 * bell(s, width * 0.6));
                }
                Feature::Hem {
                    distance,
                    width,
                    depth,
                } => {
                    let d = if distance > 0.0 {
                        t - distance
                    } else {
                        self.height - t + distance
                    };
                    height -= depth * bell(d, width);
                    fold = fold.max(0.35 * bell(d, width * 0.7));
                }
                Feature::Side { distance, depth } => {
                    let d = self.half_width - s.abs() - distance;
                    height -= depth * bell(d, 0.018);
                    fold = fold.max(0.4 * bell(d, 0.012));
                }
                Feature::Wire { length, at, depth } => {
                    height +=
                        depth * bell(t - at, 0.035) * smoothstep(length, length - 0.1, s.abs());
                }
                Feature::Ribs { period, depth } => {
                    height +=
                        depth * sin_cos((t + 0.15 * u * u) / period * std::f32::consts::TAU).0;
                }
                Feature::Slack { lengths, depth } => {
                    height += depth * noise(s / lengths.0 + 7.0, t / lengths.1, seed);
                }
                Feature::Gather { period, depth } => {
                    let at_side = smoothstep(0.55, 1.0, u.abs());
                    if at_side > 0.0 {
                        height += depth * at_side * noise(u * 3.0, t / period, seed);
                    }
                }
                Feature::Weld { slope, at, depth } => {
                    let d = t - self.height * at - slope * s.abs();
                    height -= depth * bell(d, 0.03);
                    fold = fold.max(0.3 * bell(d, 0.02));
                }
            }
        }
        if let Some(valve) = &self.valve {
            let d = valve.distance(s, t);
            height += 0.07 * smoothstep(1.0, 0.8, d) - 0.03 * smoothstep(0.62, 0.5, d)
                + 0.015 * bell(d, 0.18);
            fold = fold
                .max(0.8 * bell(d - 1.02, 0.07))
                .max(0.5 * bell(d - 0.56, 0.05));
        }
        (height, fold.min(1.0))
    }

    /// What the cloth reflects at a place; a pixel is `pixel` wide there.
    pub fn albedo(&self, s: f32, t: f32, pixel: f32) -> Albedo {
        let mut albedo = self
            .pattern
            .over(self.ground, s, t, t / self.height, pixel, self.seed);
        if let Some((colour, width)) = self.trim {
            let edge = t.min(self.height - t).min(self.half_width - s.abs());
            albedo = mix(
                albedo,
                colour,
                smoothstep(width + pixel, width - pixel, edge),
            );
        }
        if let Some(print) = &self.print {
            albedo = mix(albedo, print.colour, print.coverage(s, t, pixel, self.seed));
        }
        if let Some(valve) = &self.valve {
            let d = valve.distance(s, t);
            let soft = pixel / valve.radius;
            albedo = mix(albedo, valve.colour, smoothstep(1.0 + soft, 1.0 - soft, d));
        }
        // Finer than a pixel it averages out.
        let seen = (self.mottle_length / pixel).min(1.0);
        let length = self.mottle_length;
        let mottle = self.mottle * seen * noise(s / length, t / length, self.seed ^ 1);
        scale(albedo, 1.0 + mottle)
    }
}

impl Valve {
    fn distance(&self, s: f32, t: f32) -> f32 {
        let (x, y) = (s - self.at.0, t - self.at.1);
        (x * x + y * y).sqrt() / self.radius
    }
}

impl Print {
    fn coverage(&self, s: f32, t: f32, pixel: f32, seed: u64) -> f32 {
        let (x, y) = ((s - self.at.0) / self.size.0, (t - self.at.1) / self.size.1);
        let (px, py) = (pixel / self.size.0, pixel / self.size.1);
        let inside =
            smoothstep(1.0 + px, 1.0 - px, x.abs()) * smoothstep(1.0 + py, 1.0 - py, y.abs());
        if inside == 0.0 {
            return 0.0;
        }
        // Letters: strokes that come and go.
        let letters = self.letters;
        let ink = noise(x * letters, y * 1.6 + 30.0, seed ^ 2);
        let soft = (px * letters).max(0.15);
        let drawn = smoothstep(-soft, soft, ink - 0.05);
        // Where letters are finer than pixels there is grey.
        inside * lerp(drawn, 0.45, smoothstep(0.4, 1.2, px * letters))
    }
}

impl Pattern {
    fn over(&self, ground: Albedo, s: f32, t: f32, v: f32, pixel: f32, seed: u64) -> Albedo {
        match *self {
            Self::Plain => ground,
            Self::Stripes {
                across,
                period,
                part,
                colour,
            } => {
                let x = s * across.0 + t * across.1;
                mix(ground, colour, stripe(x, period, part, pixel))
            }
            Self::Checks {
                along,
                period,
                part,
                colour,
                line,
            } => {
                let x = s * along.0 + t * along.1;
                let y = t * along.0 - s * along.1;
                let warp = stripe(x, period, part, pixel);
                let weft = stripe(y, period, part, pixel);
                let mut albedo = mix(ground, colour, (warp + weft) * 0.5);
                if let Some(line) = line {
                    let thin = stripe(x + period * 0.47, period, 0.08, pixel).max(stripe(
                        y + period * 0.47,
                        period,
                        0.08,
                        pixel,
                    ));
                    albedo = mix(albedo, line, thin * 0.7);
                }
                albedo
            }
            Self::Dots {
                period,
                radius,
                colour,
                loose,
            } => {
                let (x, y) = (s / period, t / period * 1.15);
                let row = floor(y);
                let x = x + if row % 2 == 0 { 0.0 } else { 0.5 };
                let column = floor(x);
                let dx = x - column as f32 - 0.5 - 0.25 * loose * cell(column, row, seed);
                let dy = y - row as f32 - 0.5 - 0.25 * loose * cell(column, row, seed ^ 3);
                let d = (dx * dx + dy * dy).sqrt();
                let soft = (pixel / period).max(0.04);
                let full = smoothstep(radius + soft, radius - soft, d);
                let mean = 3.1 * radius * radius;
                mix(
                    ground,
                    colour,
                    lerp(full, mean, smoothstep(0.3, 0.8, pixel / period)),
                )
            }
            Self::Patches {
                length,
                colours,
                share,
                hard,
            } => {
                let soft = lerp(0.3, 0.05, hard) + pixel / length;
                let mut albedo = ground;
                for (i, colour) in colours.into_iter().enumerate() {
                    let seed = seed.wrapping_add(11 * (i as u64 + 1));
                    let field = 0.7 * noise(s / length, t / length, seed)
                        + 0.4 * noise(s / length * 2.3, t / length * 2.3, seed ^ 5);
                    albedo = mix(albedo, colour, smoothstep(-soft, soft, field - share));
                }
                albedo
            }
            Self::Gradient { colour } => mix(ground, colour, smoothstep(0.1, 0.9, v)),
        }
    }
}

/// Coverage 0…1 of stripes at `x`; grey where they are finer than a pixel.
fn stripe(x: f32, period: f32, part: f32, pixel: f32) -> f32 {
    let phase = x / period;
    // Distance from the middle of the nearest stripe, in periods.
    let off = (phase - floor(phase + 0.5) as f32).abs();
    let soft = (pixel / period * 0.5).max(0.015);
    let drawn = smoothstep(part / 2.0 + soft, part / 2.0 - soft, off);
    lerp(drawn, part, smoothstep(0.35, 0.8, pixel / period))
}

fn luminous(albedo: Albedo) -> f32 {
    super::light::luminance(albedo)
}

/// Any colour: of every hue, from pale to strong and from dark to light.
fn any_colour(random: &mut Random) -> Albedo {
    let hue = random.unit() * std::f32::consts::TAU;
    let strength = random.unit() * random.unit().sqrt();
    let light = random.range(0.12, 0.95);
    let value = [0.0, 2.1, 4.2].map(|offset| {
        let wave = 0.5 + 0.5 * sin_cos(hue + offset).0;
        light * lerp(1.0, wave, strength)
    });
    value.map(|v| (v * v).max(0.004))
}

/// The colour of a mask of a kind, a little different each time: a common one or one of the others.
fn ground(mask: MaskType, random: &mut Random) -> Albedo {
    type Colours = &'static [[u8; 3]];
    let (share, common, others): (f32, Colours, Colours) = match mask {
        MaskType::Surgical => (
            0.8,
            &[
                [246, 247, 247],
                [238, 241, 243],
                [180, 222, 243],
                [160, 212, 240],
                [130, 195, 235],
                [200, 230, 243],
                [150, 225, 220],
                [182, 230, 215],
                [115, 208, 200],
            ],
            &[
                [90, 165, 215],
                [70, 160, 150],
                [215, 235, 225],
                [240, 200, 210],
                [200, 195, 225],
                [130, 130, 135],
                [235, 225, 160],
            ],
        ),
        MaskType::Kn95 => (
            0.7,
            &[
                [242, 242, 240],
                [246, 246, 243],
                [236, 238, 240],
                [240, 238, 232],
            ],
            &[
                [40, 40, 44],
                [30, 30, 34],
                [120, 124, 130],
                [190, 192, 195],
                [60, 80, 120],
                [225, 180, 185],
                [185, 205, 220],
                [205, 190, 165],
            ],
        ),
        MaskType::N95 => (
            0.75,
            &[
                [244, 243, 238],
                [240, 238, 228],
                [246, 246, 244],
                [236, 237, 234],
            ],
            &[
                [150, 195, 225],
                [165, 215, 200],
                [205, 208, 205],
                [125, 128, 132],
                [45, 46, 50],
            ],
        ),
        MaskType::Sponge => (
            0.55,
            &[
                [45, 46, 50],
                [60, 62, 66],
                [85, 87, 92],
                [28, 28, 30],
                [130, 132, 136],
            ],
            &[
                [175, 177, 180],
                [230, 165, 175],
                [215, 140, 150],
                [235, 232, 228],
                [60, 75, 110],
                [125, 115, 75],
                [180, 160, 130],
                [160, 190, 215],
                [150, 40, 50],
            ],
        ),
        MaskType::Cloth => (
            0.4,
            &[
                [242, 242, 240],
                [240, 238, 230],
                [30, 40, 70],
                [45, 60, 100],
                [120, 45, 60],
                [90, 95, 105],
                [200, 190, 170],
            ],
            &[],
        ),
        MaskType::Black => (
            1.0,
            &[
                [22, 22, 24],
                [18, 18, 20],
                [24, 24, 30],
                [30, 29, 30],
                [40, 40, 46],
            ],
            &[],
        ),
    };
    let list = if random.chance(share) { common } else { others };
    let rgb = match list.get(random.below(list.len())) {
        Some(&rgb) if !random.chance(0.04) || mask == MaskType::Black => rgb,
        _ => return any_colour(random),
    };
    let strength = random.about(1.0, 0.1);
    paint(rgb).map(|c| (c * strength * random.about(1.0, 0.05)).clamp(0.004, 0.95))
}

fn pattern(ground: Albedo, random: &mut Random) -> Pattern {
    // A colour that can be told from the ground.
    let mut colour = any_colour(random);
    if (luminous(colour).sqrt() - luminous(ground).sqrt()).abs() < 0.2 {
        colour = if luminous(ground) > 0.25 {
            scale(colour, 0.2)
        } else {
            mix(colour, [0.85; 3], 0.7)
        };
    }
    let direction = match random.below(4) {
        0 => 0.0,
        1 => std::f32::consts::FRAC_PI_2,
        2 => std::f32::consts::FRAC_PI_4,
        _ => random.range(0.0, 3.1),
    };
    let (sin, cos) = sin_cos(direction);
    match random.below(10) {
        0 => Pattern::Stripes {
            across: (cos, sin),
            period: random.range(0.06, 0.3),
            part: random.range(0.2, 0.6),
            colour,
        },
        1 | 2 => Pattern::Checks {
            along: if random.chance(0.8) {
                (1.0, 0.0)
            } else {
                (cos, sin)
            },
            period: random.range(0.08, 0.32),
            part: random.range(0.3, 0.6),
            colour,
            line: random.chance(0.5).then(|| any_colour(random)),
        },
        3 => Pattern::Dots {
            period: random.range(0.08, 0.3),
            radius: random.range(0.15, 0.35),
            colour,
            loose: if random.chance(0.5) { 0.0 } else { 1.0 },
        },
        4 | 5 => Pattern::Patches {
            length: if random.chance(0.7) {
                random.range(0.08, 0.4)
            } else {
                random.range(0.4, 0.9)
            },
            colours: [colour, any_colour(random)],
            share: random.range(-0.1, 0.45),
            hard: random.unit(),
        },
        6 if random.chance(0.4) => Pattern::Gradient { colour },
        _ => Pattern::Plain,
    }
}

fn print(ground: Albedo, half_width: f32, height: f32, random: &mut Random) -> Print {
    let side = if random.chance(0.5) { 1.0 } else { -1.0 };
    let ink = if luminous(ground) > 0.2 {
        random.range(0.02, 0.4)
    } else {
        random.range(0.3, 0.9)
    };
    // A maker's mark on one cheek, or a word across the front.
    let (at, size) = if random.chance(0.75) {
        (
            (
                side * half_width * random.range(0.25, 0.55),
                height * random.range(0.3, 0.75),
            ),
            (random.range(0.08, 0.28), random.range(0.02, 0.07)),
        )
    } else {
        (
            (
                side * half_width * random.range(0.0, 0.25),
                height * random.range(0.35, 0.65),
            ),
            (random.range(0.25, 0.5), random.range(0.07, 0.14)),
        )
    };
    Print {
        at,
        size,
        colour: if random.chance(0.7) {
            [ink; 3]
        } else {
            mix(any_colour(random), [ink; 3], 0.4)
        },
        letters: random.range(3.0, 8.0),
    }
}

fn valve(ground: Albedo, half_width: f32, height: f32, random: &mut Random) -> Valve {
    let side = if random.chance(0.5) { 1.0 } else { -1.0 };
    let aside = if random.chance(0.4) {
        0.0
    } else {
        random.range(0.25, 0.5)
    };
    let colours = [
        [240, 240, 238],
        [225, 228, 230],
        [190, 192, 196],
        [20, 130, 80],
        [40, 42, 46],
    ];
    let colour = paint(random.pick([235, 235, 235], &colours));
    Valve {
        at: (side * half_width * aside, height * random.range(0.45, 0.65)),
        radius: random.range(0.15, 0.22),
        colour: if random.chance(0.4) { ground } else { colour },
    }
}
