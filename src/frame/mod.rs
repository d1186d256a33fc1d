//! Images and what is done to their pixels: layouts and colours ([`image`]), which way up they are ([`orientation`]), boxes
//! and landmarks ([`geometry`]), scaled copies ([`resize`]) and the halves that these are made from ([`mipmap`]).

pub mod geometry;
pub mod image;
pub mod mipmap;
pub mod orientation;
pub mod resize;
