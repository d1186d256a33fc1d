//! The thresholds of a gallery and their measured effect, as text.

use anyhow::Result;
use gstmfr::gallery::{Calibration, Measured};
use serde::Serialize;

use crate::output::Output;

/// Expected number of named strangers below which a count is not meaningful.
const FEW: f64 = 1.0;

/// The thresholds and their measured effect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalibrationTable {
    pub target_fpir: f64,
    pub bare: Row,
    pub masked: Row,
}

/// Results for bare or for masked faces: photos that were left out of the gallery and then tried, and
/// people that were left out entirely.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub threshold: f32,
    pub known: usize,
    pub named_rightly: usize,
    pub named_wrongly: usize,
    pub strangers: usize,
    pub strangers_named: usize,
}

impl Row {
    fn of(measured: &Measured) -> Self {
        let (named_rightly, named_wrongly) = measured.named();
        Self {
            threshold: measured.threshold,
            known: measured.known(),
            named_rightly,
            named_wrongly,
            strangers: measured.strangers.len(),
            strangers_named: measured.strangers_named(),
        }
    }
}

impl CalibrationTable {
    pub fn of(calibration: &Calibration) -> Self {
        Self {
            target_fpir: calibration.target_fpir,
            bare: Row::of(&calibration.bare),
            masked: Row::of(&calibration.masked),
        }
    }

    pub fn say(&self, out: &mut Output) -> Result<()> {
        out.line(format_args!(
            "\nthresholds, so that {} of strangers are named; tried on photos left out",
            percent(self.target_fpir)
        ))?;
        out.line("faces     threshold  known: right  wrong  unknown  strangers: named")?;
        for (name, row) in [("bare", &self.bare), ("masked", &self.masked)] {
            let Row {
                threshold,
                known,
                named_rightly: right,
                named_wrongly: wrong,
                strangers,
                strangers_named,
            } = row;
            let share = |count: &usize| match known {
                0 => "–".to_owned(),
                _ => percent(*count as f64 / *known as f64),
            };
            let unknown = known - right - wrong;
            let named = match strangers {
                0 => "–".to_owned(),
                _ => format!("{strangers_named} of {strangers}"),
            };
            out.line(format_args!(
                "{name:8}  {threshold:9.3}  {:>12}  {:>5}  {:>7}  {named:>16}",
                share(right),
                share(wrong),
                share(&unknown),
            ))?;
        }
        let few = |row: &Row| row.strangers as f64 * self.target_fpir < FEW;
        if few(&self.bare) && few(&self.masked) {
            out.line(
                "(too few people to measure strangers on: the thresholds follow from what is known of faces in general)",
            )?;
        }
        Ok(())
    }
}

/// A percentage: `1 %`, `0.5 %`, `99.2 %`.
fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_short() {
        assert_eq!(percent(0.01), "1 %");
        assert_eq!(percent(0.005), "0.5 %");
        assert_eq!(percent(0.9921), "99.2 %");
    }
}
