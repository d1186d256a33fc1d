//! Regions to search, as text: `x,y,w,h[;x,y,w,h…]` in pixels.

use thiserror::Error;

use crate::frame::geometry::Rect;

/// Why a text cannot be parsed as regions.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionError {
    #[error("region \"{region}\" has {found} numbers, expected four: x,y,w,h in pixels")]
    Count { region: String, found: usize },
    #[error(
        "\"{number}\" in region \"{region}\" is not a whole number of pixels of at most {MAX_PIXEL}; \
         fractions of the frame are not supported"
    )]
    Number { region: String, number: String },
    #[error("region \"{region}\" has no area: width and height must be above 0")]
    Empty { region: String },
}

/// Maximum coordinate: beyond every frame, and exact in f32.
const MAX_PIXEL: f32 = 1_000_000.0;

/// Parses `x,y,w,h[;x,y,w,h…]`: left, top, width and height in pixels. Blanks and a trailing semicolon are allowed; an
/// empty text is an empty list, which means the whole frame.
pub fn parse_regions(text: &str) -> Result<Vec<Rect>, RegionError> {
    text.split(';')
        .map(str::trim)
        .filter(|region| !region.is_empty())
        .map(parse_region)
        .collect()
}

fn parse_region(region: &str) -> Result<Rect, RegionError> {
    let numbers = region
        .split(',')
        .map(|number| {
            let number = number.trim();
            number
                .parse::<f32>()
                .ok()
                .filter(|v| v.abs() <= MAX_PIXEL && v.fract() == 0.0)
                .ok_or_else(|| RegionError::Number {
                    region: region.to_owned(),
                    number: number.to_owned(),
                })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let &[x, y, width, height] = numbers.as_slice() else {
        return Err(RegionError::Count {
            region: region.to_owned(),
            found: numbers.len(),
        });
    };
    if width <= 0.0 || height <= 0.0 {
        return Err(RegionError::Empty {
            region: region.to_owned(),
        });
    }
    Ok(Rect::new(x, y, width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_four_numbers_each_separated_by_semicolons() {
        assert_eq!(
            parse_regions("1,2,30,40; -5 , 8, 6,7;").unwrap(),
            [
                Rect::new(1.0, 2.0, 30.0, 40.0),
                Rect::new(-5.0, 8.0, 6.0, 7.0)
            ]
        );
    }

    #[test]
    fn no_text_is_the_whole_frame() {
        assert_eq!(parse_regions("").unwrap(), []);
        assert_eq!(parse_regions(" ; ").unwrap(), []);
    }

    #[test]
    fn whatever_is_wrong_is_named() {
        for (text, message) in [
            ("1,2,3", "region \"1,2,3\" has 3 numbers, expected four"),
            ("1,2,3,4,5", "has 5 numbers"),
            (
                "1,2,x,4",
                "\"x\" in region \"1,2,x,4\" is not a whole number",
            ),
            (
                "0.1,0.1,0.5,0.5",
                "\"0.1\" in region \"0.1,0.1,0.5,0.5\" is not a whole number of pixels",
            ),
            ("1,2,NaN,4", "\"NaN\""),
            ("1,2,inf,4", "\"inf\""),
            ("1,2,,4", "\"\" in region"),
            ("0,0,1e9,4", "at most 1000000"),
            ("0,0,10,10;1,2,0,4", "region \"1,2,0,4\" has no area"),
            ("1,2,3,-4", "has no area"),
        ] {
            let error = parse_regions(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
