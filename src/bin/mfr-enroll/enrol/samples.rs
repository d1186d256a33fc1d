use super::*;
use crate::input::source::SourceFile;

pub fn item(person: usize, name: &str) -> Item {
    Item {
        person,
        name: name.to_owned(),
        source: SourceFile::Photo(name.into()),
        is_enrolled: false,
    }
}

pub fn photo(item: usize) -> Shot {
    Shot { item, time: None }
}

pub fn frame(item: usize, seconds: u64) -> Shot {
    let time = Some(Duration::from_secs(seconds));
    Shot { item, time }
}

pub fn learned(item: usize, embedding: [f32; 2]) -> Learned {
    Learned {
        shot: photo(item),
        kind: Kind::Photo,
        embedding: ndarray::arr1(&embedding),
        copies: Vec::new(),
        crop: None,
        portrait: Portrait::default(),
        likeness: Likeness::default(),
    }
}
