//! Process-wide cache of values that are shared while in use: networks, models, galleries.

use std::sync::{Arc, Mutex, Weak};

use crate::threads::lock;

/// Weakly held values by key: a value lives as long as a caller holds its `Arc`.
pub struct Cache<K, V>(Mutex<Vec<Arc<Entry<K, V>>>>);

struct Entry<K, V> {
    key: K,
    value: Mutex<Weak<V>>,
}

impl<K: PartialEq, V> Cache<K, V> {
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Returns the value of a key, and loads it if it is not in use. Concurrent calls for the same key wait until it is
    /// loaded; calls for other keys are not blocked.
    pub fn get<E>(&self, key: K, load: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let entry = self.entry(key);
        let mut value = lock(&entry.value);
        match value.upgrade() {
            Some(value) => Ok(value),
            None => Self::load(&mut value, load),
        }
    }

    /// Loads the value of a key even if it is in use; callers that hold the previous value keep it.
    #[cfg(any(feature = "plugin", test))]
    pub fn get_anew<E>(&self, key: K, load: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let entry = self.entry(key);
        let mut value = lock(&entry.value);
        Self::load(&mut value, load)
    }

    fn load<E>(value: &mut Weak<V>, load: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let loaded = Arc::new(load()?);
        *value = Arc::downgrade(&loaded);
        Ok(loaded)
    }

    fn entry(&self, key: K) -> Arc<Entry<K, V>> {
        let mut all = lock(&self.0);
        // An entry that a thread is loading or waiting for has an owner besides this list.
        all.retain(|entry| Arc::strong_count(entry) > 1 || lock(&entry.value).strong_count() > 0);
        if let Some(entry) = all.iter().find(|entry| entry.key == key) {
            return Arc::clone(entry);
        }
        let entry = Arc::new(Entry {
            key,
            value: Mutex::new(Weak::new()),
        });
        all.push(Arc::clone(&entry));
        entry
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Barrier;

    use super::*;

    fn fine(value: u32) -> impl FnOnce() -> Result<u32, Infallible> {
        move || Ok(value)
    }

    #[test]
    fn a_value_is_shared_while_somebody_has_it() {
        let cache = Cache::new();
        let first = cache.get("a", fine(1)).unwrap();
        let same = cache.get("a", fine(2)).unwrap();
        assert!(Arc::ptr_eq(&first, &same));
        assert_eq!(*cache.get("b", fine(3)).unwrap(), 3);
        let anew = cache.get_anew("a", fine(4)).unwrap();
        assert_eq!(
            [*first, *anew, *cache.get("a", fine(5)).unwrap()],
            [1, 4, 4]
        );
        drop((first, same, anew));
        assert_eq!(*cache.get("a", fine(6)).unwrap(), 6);
        assert_eq!(lock(&cache.0).len(), 1);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let cache = Cache::new();
        assert_eq!(cache.get("a", || Err("no")), Err("no"));
        assert_eq!(cache.get("a", || Ok::<_, &str>(1)).as_deref(), Ok(&1));
    }

    #[test]
    fn nobody_waits_for_a_value_of_another_key() {
        let cache = Cache::new();
        let (begun, done) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                cache.get("slow", || {
                    begun.wait();
                    done.wait();
                    Ok::<_, Infallible>(1)
                })
            });
            begun.wait();
            assert_eq!(*cache.get("other", fine(2)).unwrap(), 2);
            done.wait();
        });
    }
}
