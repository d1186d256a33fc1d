//! The material of a mask: dye, pattern and relief, depending on how the mask is made.
//!
//! Coordinates on the cloth have their origin in the middle of its upper edge and are in interocular
//! distances: `s` to the right, `t` down.

use super::MaskType;
use super::dye::{Albedo, ground, paint};
use super::light::luminance;
use super::maths::{Random, mix, noise, scale, smoothstep};
use super::pattern::{Pattern, Print};
use super::relief::{Feature, Valve};
use super::shape::{Extent, Style};

/// A mask's cloth.
#[derive(Debug, Clone)]
pub struct Fabric {
    pub extent: Extent,
    ground: Albedo,
    pattern: Pattern,
    /// Strength and length scale of uneven dye and threads.
    mottle: f32,
    mottle_length: f32,
    /// Another colour along the edges, and the width of that trim.
    trim: Option<(Albedo, f32)>,
    pub strap: Albedo,
    pub strap_width: f32,
    features: Vec<Feature>,
    valve: Option<Valve>,
    print: Option<Print>,
    seed: u64,
}

impl Fabric {
    pub fn new(mask: MaskType, style: Style, extent: Extent, random: &mut Random) -> Self {
        let ground = ground(mask, random);
        let white = paint([240, 240, 238]);
        let mut fabric = Self {
            extent,
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
            fabric.pattern = Pattern::new(ground, random);
        }
        if mask == MaskType::Black || (luminance(ground) < 0.05 && random.chance(0.8)) {
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
            fabric.print = Some(Print::new(ground, &extent, random));
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
            self.print = Some(Print::new(self.ground, &self.extent, random));
        }
        if random.chance(0.15) {
            self.valve = Some(Valve::new(self.ground, &self.extent, random));
        }
    }

    fn cup(&mut self, random: &mut Random) {
        if random.chance(0.55) {
            self.valve = Some(Valve::new(self.ground, &self.extent, random));
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
            self.print = Some(Print::new(self.ground, &self.extent, random));
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

    /// Adds hems along the upper and lower edge.
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

    /// Adds wrinkles, most of which start at a corner, where the strap pulls.
    fn folds(&mut self, random: &mut Random, most: usize, depth: f32) {
        for _ in 0..random.below(most + 1) {
            let side = if random.chance(0.5) { 1.0 } else { -1.0 };
            let from = (
                side * self.extent.half_width * random.range(0.7, 1.0),
                self.extent.height
                    * if random.chance(0.5) {
                        random.range(0.0, 0.25)
                    } else {
                        random.range(0.7, 1.0)
                    },
            );
            let to = (
                side * self.extent.half_width * random.range(0.0, 0.55),
                self.extent.height * random.range(0.2, 0.85),
            );
            self.features.push(Feature::Fold {
                from,
                to,
                curvature: random.about(0.0, 0.15),
                width: random.range(0.025, 0.08),
                depth: depth * random.range(-1.0, 1.0),
            });
        }
    }

    /// Height of the cloth's surface at each point, and depth in a fold, 0…1.
    pub fn lifts(&self, places: &[(f32, f32)]) -> Vec<(f32, f32)> {
        let mut lifts = vec![(0.0, 0.0); places.len()];
        for (i, feature) in self.features.iter().enumerate() {
            let seed = self.seed.wrapping_add(i as u64);
            add_lift(&mut lifts, places, |s, t| {
                feature.lift(s, t, &self.extent, seed)
            });
        }
        if let Some(valve) = &self.valve {
            add_lift(&mut lifts, places, |s, t| valve.lift(s, t));
        }
        for (_, fold) in &mut lifts {
            *fold = fold.min(1.0);
        }
        lifts
    }

    /// Albedo of the cloth at a point; a pixel is `pixel` wide there.
    pub fn albedo(&self, s: f32, t: f32, pixel: f32) -> Albedo {
        let mut albedo =
            self.pattern
                .over(self.ground, s, t, t / self.extent.height, pixel, self.seed);
        if let Some((colour, width)) = self.trim {
            let edge = t
                .min(self.extent.height - t)
                .min(self.extent.half_width - s.abs());
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
            albedo = mix(albedo, valve.colour, valve.coverage(s, t, pixel));
        }
        // Variations finer than a pixel average out.
        let seen = (self.mottle_length / pixel).min(1.0);
        let length = self.mottle_length;
        let mottle = self.mottle * seen * noise(s / length, t / length, self.seed ^ 1);
        scale(albedo, 1.0 + mottle)
    }
}

/// Adds the relief of one feature at every point.
fn add_lift(
    lifts: &mut [(f32, f32)],
    places: &[(f32, f32)],
    lift: impl Fn(f32, f32) -> (f32, f32),
) {
    for ((height, deepest), &(s, t)) in lifts.iter_mut().zip(places) {
        let (more, fold) = lift(s, t);
        *height += more;
        *deepest = deepest.max(fold);
    }
}
