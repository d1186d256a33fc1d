//! Woven and printed patterns of a mask's cloth. Coordinates as in [`super::fabric`].

use super::dye::{Albedo, any_colour};
use super::light::luminance;
use super::maths::{Random, cell, floor, lerp, mix, noise, scale, sin_cos, smoothstep};
use super::shape::Extent;

/// A pattern that repeats over the whole cloth.
#[derive(Debug, Clone)]
pub enum Pattern {
    Plain,
    /// Stripes across a direction: period, coloured fraction of it, colour.
    Stripes {
        across: (f32, f32),
        period: f32,
        part: f32,
        colour: Albedo,
    },
    /// Stripes woven in both directions, darker where they cross.
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

/// A few letters or a badge, too small to be legible.
#[derive(Debug, Clone)]
pub struct Print {
    at: (f32, f32),
    size: (f32, f32),
    pub colour: Albedo,
    letters: f32,
}

impl Print {
    /// A print whose colour contrasts with the ground.
    pub fn new(ground: Albedo, extent: &Extent, random: &mut Random) -> Self {
        let side = if random.chance(0.5) { 1.0 } else { -1.0 };
        let ink = if luminance(ground) > 0.2 {
            random.range(0.02, 0.4)
        } else {
            random.range(0.3, 0.9)
        };
        // The print is a maker's mark on one cheek, or a word across the front.
        let (at, size) = if random.chance(0.75) {
            (
                (
                    side * extent.half_width * random.range(0.25, 0.55),
                    extent.height * random.range(0.3, 0.75),
                ),
                (random.range(0.08, 0.28), random.range(0.02, 0.07)),
            )
        } else {
            (
                (
                    side * extent.half_width * random.range(0.0, 0.25),
                    extent.height * random.range(0.35, 0.65),
                ),
                (random.range(0.25, 0.5), random.range(0.07, 0.14)),
            )
        };
        Self {
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

    /// Fraction of ink at a point, 0…1.
    pub fn coverage(&self, s: f32, t: f32, pixel: f32, seed: u64) -> f32 {
        let (x, y) = ((s - self.at.0) / self.size.0, (t - self.at.1) / self.size.1);
        let (px, py) = (pixel / self.size.0, pixel / self.size.1);
        let inside =
            smoothstep(1.0 + px, 1.0 - px, x.abs()) * smoothstep(1.0 + py, 1.0 - py, y.abs());
        if inside == 0.0 {
            return 0.0;
        }
        // Letters are irregular strokes.
        let letters = self.letters;
        let ink = noise(x * letters, y * 1.6 + 30.0, seed ^ 2);
        let soft = (px * letters).max(0.15);
        let drawn = smoothstep(-soft, soft, ink - 0.05);
        // Letters finer than a pixel average to grey.
        inside * lerp(drawn, 0.45, smoothstep(0.4, 1.2, px * letters))
    }
}

impl Pattern {
    /// A random pattern, or none.
    pub fn new(ground: Albedo, random: &mut Random) -> Self {
        // The colour must differ in brightness from the ground.
        let mut colour = any_colour(random);
        if (luminance(colour).sqrt() - luminance(ground).sqrt()).abs() < 0.2 {
            colour = if luminance(ground) > 0.25 {
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
            0 => Self::Stripes {
                across: (cos, sin),
                period: random.range(0.06, 0.3),
                part: random.range(0.2, 0.6),
                colour,
            },
            1 | 2 => Self::Checks {
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
            3 => Self::Dots {
                period: random.range(0.08, 0.3),
                radius: random.range(0.15, 0.35),
                colour,
                loose: if random.chance(0.5) { 0.0 } else { 1.0 },
            },
            4 | 5 => Self::Patches {
                length: if random.chance(0.7) {
                    random.range(0.08, 0.4)
                } else {
                    random.range(0.4, 0.9)
                },
                colours: [colour, any_colour(random)],
                share: random.range(-0.1, 0.45),
                hard: random.unit(),
            },
            6 if random.chance(0.4) => Self::Gradient { colour },
            _ => Self::Plain,
        }
    }

    /// The colour at a point of a cloth whose ground colour is `ground`; `v` is the point's height, 0…1.
    pub fn over(&self, ground: Albedo, s: f32, t: f32, v: f32, pixel: f32, seed: u64) -> Albedo {
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

/// Coverage 0…1 of stripes at `x`; stripes finer than a pixel average to grey.
fn stripe(x: f32, period: f32, part: f32, pixel: f32) -> f32 {
    let phase = x / period;
    // Distance from the centre of the nearest stripe, in periods.
    let off = (phase - floor(phase + 0.5) as f32).abs();
    let soft = (pixel / period * 0.5).max(0.015);
    let drawn = smoothstep(part / 2.0 + soft, part / 2.0 - soft, off);
    lerp(drawn, part, smoothstep(0.35, 0.8, pixel / period))
}
