//! Networks of which one serves the whole process.

use std::sync::{Arc, Mutex, Weak};

use crate::workers::lock;

/// Those that somebody has, by name.
pub struct Shared<T>(Mutex<Vec<(String, Weak<T>)>>);

impl<T> Shared<T> {
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// The one of this name. It is loaded if nobody has it; who asks meanwhile waits for that.
    pub fn get<E>(&self, name: &str, load: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let mut all = lock(&self.0);
        all.retain(|(_, network)| network.strong_count() > 0);
        let known = all.iter().find(|(other, _)| other == name);
        if let Some(network) = known.and_then(|(_, network)| network.upgrade()) {
            return Ok(network);
        }
        let network = Arc::new(load()?);
        all.push((name.to_owned(), Arc::downgrade(&network)));
        Ok(network)
    }
}
