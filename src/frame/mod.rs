//! Images and operations on their pixels: formats and colours ([`image`]), orientation ([`orientation`]), boxes and
//! landmarks ([`geometry`]), resampling ([`resize`]), and half-size levels to resample from ([`mipmap`]).

pub mod geometry;
pub mod image;
pub mod mipmap;
pub mod orientation;
pub mod resize;
