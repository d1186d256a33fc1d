//! Lossless encoding of values in a line of a partial file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers as base64, little-endian.
pub mod floats {
    use super::*;
    use ndarray::Array1;

    pub fn serialize<S: Serializer>(values: &Array1<f32>, to: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Array1<f32>, D::Error> {
        let bytes = STANDARD.decode(String::deserialize(from)?);
        let bytes = bytes.map_err(D::Error::custom)?;
        let (values, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(D::Error::custom("half a number"));
        }
        Ok(values.iter().map(|&v| f32::from_le_bytes(v)).collect())
    }
}

/// Bytes as base64.
pub mod bytes {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|b| STANDARD.encode(b)).serialize(to)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let bytes = text.map(|text| STANDARD.decode(text)).transpose();
        bytes.map_err(D::Error::custom)
    }
}

/// Kind of mask by its name.
pub mod mask {
    use super::*;
    use gstmfr::paint::MaskType;

    pub fn serialize<S: Serializer>(mask: &MaskType, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(mask.name())
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<MaskType, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
