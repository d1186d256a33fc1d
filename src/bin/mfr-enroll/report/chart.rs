//! Diagrams as inline SVG. Colours are classes of the page's style.

use std::fmt::Write;

use super::scores::{GalleryScores, Scores};

/// Size of a diagram in its own units, which are pixels on a wide page.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 270.0;
/// Left, top, right, bottom of the plot area; the rest is for labels.
const AREA: [f64; 4] = [56.0, 22.0, 468.0, 228.0];

/// Width of a histogram's bar in similarity.
const BIN: f64 = 0.04;
const BINS: usize = 25;

/// Smallest share on the logarithmic axis of the error curves: one in a thousand.
const LEAST_SHARE: f64 = 1e-3;
/// Number of points of a curve.
const STEPS: usize = 200;

/// Converts a similarity to a horizontal position; 0…1 is the whole area.
fn across(similarity: f64) -> f64 {
    let [left, _, right, _] = AREA;
    left + similarity.clamp(0.0, 1.0) * (right - left)
}

/// Converts a height, 0…1 of the area, to a vertical position.
fn up(height: f64) -> f64 {
    let [_, top, _, bottom] = AREA;
    bottom - height.clamp(0.0, 1.0) * (bottom - top)
}

/// Converts a share, 0…1, to a height on the logarithmic axis.
fn log_height(share: f64) -> f64 {
    1.0 - share.max(LEAST_SHARE).log10() / LEAST_SHARE.log10()
}

/// Histogram of similarities, for the right people and for strangers.
pub fn histogram(scores: &Scores, threshold: f32) -> String {
    let [genuine, impostor] = [bins(&scores.genuine), bins(&scores.impostor)];
    let most = genuine.iter().chain(&impostor).copied().fold(0.0, f64::max);
    // Rounded up to the next 20 %, which four ticks divide into round numbers.
    let most = (most * 5.0).ceil().max(1.0) / 5.0;
    let mut svg =
        start("How similar faces are to the right person and to the most similar stranger");
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| (part, percent(part * most)));
    axes(&mut svg, &ticks, "of all");
    for (class, shares) in [("impostor", impostor), ("genuine", genuine)] {
        let mut path = format!("M{:.1} {:.1}", across(0.0), up(0.0));
        for (i, share) in shares.iter().enumerate() {
            let [from, to] = [i, i + 1].map(|i| across(i as f64 * BIN));
            let y = up(share / most);
            let _ = write!(path, "L{from:.1} {y:.1}L{to:.1} {y:.1}");
        }
        let _ = write!(path, "L{:.1} {:.1}Z", across(1.0), up(0.0));
        let _ = write!(svg, "<path class=\"area {class}\" d=\"{path}\"/>");
    }
    threshold_line(&mut svg, threshold, "threshold", false);
    finish(svg)
}

/// Share of the scores in each bin.
fn bins(scores: &[f32]) -> [f64; BINS] {
    let mut shares = [0.0; BINS];
    for &score in scores {
        let bin = ((f64::from(score) / BIN).max(0.0) as usize).min(BINS - 1);
        shares[bin] += 1.0 / scores.len() as f64;
    }
    shares
}

/// Shares of named strangers and of missed people at every threshold.
pub fn error_curves(measured: &GalleryScores) -> String {
    let mut svg = start("Strangers named and people missed at every threshold");
    let mut ticks = [LEAST_SHARE, 0.01, 0.1, 1.0].map(|share| (log_height(share), percent(share)));
    ticks[0].1.insert_str(0, "≤ ");
    axes(&mut svg, &ticks, "share");
    let [bare, masked] = measured.thresholds;
    for (scores, dashed) in [(&measured.bare, ""), (&measured.masked, " dashed")] {
        if scores.is_empty() {
            continue;
        }
        let impostor = curve(|t| scores.accepted_falsely(t));
        let genuine = curve(|t| scores.rejected_falsely(t));
        let _ = write!(
            svg,
            "<path class=\"line impostor{dashed}\" d=\"{impostor}\"/>\
             <path class=\"line genuine{dashed}\" d=\"{genuine}\"/>"
        );
    }
    if measured.masked.is_empty() {
        threshold_line(&mut svg, bare, "threshold", false);
    } else {
        threshold_line(&mut svg, bare, "bare", bare < masked);
        threshold_line(&mut svg, masked, "masked", masked <= bare);
    }
    finish(svg)
}

/// The path of a share over the thresholds.
fn curve(share: impl Fn(f32) -> f64) -> String {
    let mut path = String::new();
    for step in 0..=STEPS {
        let threshold = step as f64 / STEPS as f64;
        let command = if step == 0 { 'M' } else { 'L' };
        let (x, y) = (across(threshold), up(log_height(share(threshold as f32))));
        let _ = write!(path, "{command}{x:.1} {y:.1}");
    }
    path
}

fn start(title: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{title}</title>")
}

fn finish(mut svg: String) -> String {
    svg += "</svg>";
    svg
}

/// Grid lines with labels: similarity horizontally, these heights and labels vertically.
fn axes(svg: &mut String, ticks: &[(f64, String)], what: &str) {
    let [left, top, right, bottom] = AREA;
    for (height, label) in ticks {
        let y = up(*height);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>\
             <text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
            left - 6.0,
            y + 4.0
        );
    }
    for tenth in (0..=10).step_by(2) {
        let x = across(f64::from(tenth) / 10.0);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} {bottom}v4\"/>\
             <text class=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{:.1}</text>",
            bottom + 17.0,
            f64::from(tenth) / 10.0
        );
    }
    let _ = write!(
        svg,
        "<text class=\"middle\" x=\"{:.1}\" y=\"{:.1}\">similarity</text>\
         <text x=\"4\" y=\"{:.1}\">{what}</text>",
        (left + right) / 2.0,
        bottom + 35.0,
        top - 10.0
    );
}

/// A vertical line with its name beside it.
fn threshold_line(svg: &mut String, threshold: f32, name: &str, is_label_left: bool) {
    let [_, top, _, bottom] = AREA;
    let x = across(f64::from(threshold));
    let (class, label) = if is_label_left {
        ("mark end", x - 5.0)
    } else {
        ("mark", x + 5.0)
    };
    let _ = write!(
        svg,
        "<path class=\"threshold\" d=\"M{x:.1} {:.1}V{bottom}\"/>\
         <text class=\"{class}\" x=\"{label:.1}\" y=\"{:.1}\">{name} {threshold:.2}</text>",
        top - 8.0,
        top - 3.0
    );
}

/// A share in per cent, without a fraction if it is integral.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let text = if percent < 1.0 {
        format!("{percent:.2}")
    } else {
        format!("{percent:.1}")
    };
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_written_as_short_as_they_can_be() {
        let written: Vec<_> = [0.0, 0.001, 0.0054, 0.1, 0.125, 1.0].map(percent).into();
        assert_eq!(
            written,
            ["0 %", "0.1 %", "0.54 %", "10 %", "12.5 %", "100 %"]
        );
    }

    #[test]
    fn positions_stay_in_the_picture() {
        assert_eq!(across(-3.0), AREA[0]);
        assert_eq!(across(2.0), AREA[2]);
        assert_eq!(up(log_height(0.0)), AREA[3]);
        assert_eq!(up(log_height(1.0)), AREA[1]);
        assert_eq!(log_height(0.1), 1.0 - 1.0 / 3.0);
        assert_eq!(bins(&[-0.5, 0.0, 1.0, f32::NAN]).iter().sum::<f64>(), 1.0);
    }

    #[test]
    fn diagrams_of_nothing_have_axes_alone() {
        let empty = histogram(&Scores::default(), 0.41);
        assert!(empty.starts_with("<svg ") && empty.ends_with("</svg>"));
        assert!(!empty.contains("NaN"));
        let curves = error_curves(&GalleryScores::default());
        assert!(!curves.contains("class=\"line"));
    }

    #[test]
    fn a_curve_steps_where_the_scores_are() {
        let scores = Scores {
            genuine: vec![0.5],
            impostor: vec![0.25],
        };
        // All strangers are named up to .25, and none above; no person is missed up to .5.
        let [left, top, right, bottom] = AREA;
        let at = |s: f64, y: f64| format!("{:.1} {y:.1}", left + s * (right - left));
        let impostor = curve(|t| scores.accepted_falsely(t));
        assert!(impostor.starts_with(&format!("M{}", at(0.0, top))));
        let step = format!("L{}L{}", at(0.25, top), at(0.255, bottom));
        assert!(impostor.contains(&step), "{impostor}");
        let genuine = curve(|t| scores.rejected_falsely(t));
        let step = format!("L{}L{}", at(0.5, bottom), at(0.505, top));
        assert!(genuine.contains(&step), "{genuine}");
    }
}
