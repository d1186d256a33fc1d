//! People who are named up to a day only.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::GalleryError;

const DAY: u64 = 24 * 60 * 60;

/// A clock that shows a time before 2020 was not set: no gallery of this format is as old.
const EARLIEST: u64 = 1_577_836_800;

/// Whether the clock of the computer shows an impossible time. Nobody has expired by it.
pub fn is_clock_wrong() -> bool {
    now() < EARLIEST
}

/// Seconds since 1970 by the clock of the computer.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The moment after the last day, `YYYY-MM-DD`, in UTC: seconds since 1970. None for any other text, a day that is not in the
/// calendar, and years before 1970.
pub fn end_of_day(date: &str) -> Option<u64> {
    let mut parts = date.split('-');
    let [year, month, day] = [4, 2, 2].map(|length| {
        let digits = parts.next().filter(|part| part.len() == length)?;
        let is_number = digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok())?
    });
    let (year, month, day) = (year?, month?, day?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if is_leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if parts.next().is_some() || year < 1970 || !(1..=length).contains(&day) {
        return None;
    }
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let days = 365 * (year - 1970) + leap_days(year - 1) - leap_days(1969);
    let before: u64 = lengths[..month as usize - 1].iter().sum();
    Some((days + before + day) * DAY)
}

/// When people of a gallery expire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expiry {
    /// Index of the person and the end of the last day, in the order of the former.
    people: Vec<(usize, u64)>,
}

impl Expiry {
    /// The last days by name. Names that the gallery does not have are left out.
    pub fn of(days: &BTreeMap<String, String>, names: &[String]) -> Result<Self, GalleryError> {
        let mut people = Vec::new();
        if days.is_empty() {
            return Ok(Self::default());
        }
        for (label, name) in names.iter().enumerate() {
            if let Some(day) = days.get(name) {
                let end = end_of_day(day).ok_or_else(|| {
                    GalleryError::contents(format!(
                        "array contract: expires of {name:?}: expected a day as 2027-01-31, found {day:?}"
                    ))
                })?;
                people.push((label, end));
            }
        }
        Ok(Self { people })
    }

    /// Whether anybody expires at all.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }

    /// Whether anybody has expired.
    pub fn is_due(&self) -> bool {
        !self.people.is_empty() && {
            let now = now();
            self.people.iter().any(|&(_, end)| end <= now)
        }
    }

    pub fn has_expired(&self, label: usize) -> bool {
        let place = self
            .people
            .binary_search_by_key(&label, |&(label, _)| label);
        place.is_ok_and(|place| self.people[place].1 <= now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_in_utc() {
        assert_eq!(end_of_day("1970-01-01"), Some(DAY));
        assert_eq!(end_of_day("2019-12-31"), Some(EARLIEST));
        assert_eq!(end_of_day("2000-02-29"), Some(951_868_800));
        assert_eq!(end_of_day("2024-12-31"), Some(1_735_689_600));
        assert_eq!(end_of_day("9999-12-31"), Some(253_402_300_800));
        for wrong in [
            "",
            "2027",
            "2027-1-1",
            "2027-02-29",
            "2100-02-29",
            "2027-13-01",
            "2027-00-01",
            "2027-01-00",
            "2027-01-32",
            "1969-12-31",
            "+027-01-01",
            "2027-01-01-01",
            "2027-01-01T",
        ] {
            assert_eq!(end_of_day(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn people_expire_after_their_last_day() {
        let names = ["Ana", "Bo", "Cy"].map(str::to_owned);
        let days = [
            ("Ana", "2021-01-31"),
            ("Cy", "9999-01-01"),
            ("Nobody", "2021-01-31"),
        ];
        let mut days: BTreeMap<String, String> =
            days.map(|(name, day)| (name.into(), day.into())).into();
        let expiry = Expiry::of(&days, &names).unwrap();
        assert!(expiry.is_due());
        assert_eq!(
            [0, 1, 2].map(|label| expiry.has_expired(label)),
            [true, false, false]
        );
        days.insert("Bo".into(), "soon".into());
        let error = Expiry::of(&days, &names).unwrap_err().to_string();
        assert!(
            error.contains("expires of \"Bo\"") && error.contains("\"soon\""),
            "{error}"
        );
        assert_eq!(
            Expiry::of(&BTreeMap::new(), &names).unwrap(),
            Expiry::default()
        );
    }
}
