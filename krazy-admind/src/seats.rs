//! Counted places: so many in all, so many per holder.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Who holds how many.
#[derive(Debug)]
pub(crate) struct Seats<K: Eq + Hash> {
    taken: Mutex<HashMap<K, usize>>,
}

/// One place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat<K: Eq + Hash> {
    seats: Arc<Seats<K>>,
    holder: K,
}

impl<K: Eq + Hash> Default for Seats<K> {
    fn default() -> Self {
        Seats { taken: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone> Seats<K> {
    /// A place for `holder`; `None` if that one has `each` already, or all together have `total`.
    pub(crate) fn take(self: &Arc<Self>, holder: K, each: usize, total: usize) -> Option<Seat<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= total {
            return None;
        }
        let own = taken.entry(holder.clone()).or_default();
        // The entry of a holder with the limit exhausted was there before, so none is left behind empty.
        if *own >= each {
            return None;
        }
        *own += 1;
        Some(Seat { seats: Arc::clone(self), holder })
    }
}

impl<K: Eq + Hash + Copy> Seat<K> {
    /// Whose it is.
    pub(crate) fn holder(&self) -> K {
        self.holder
    }
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_cannot_take_every_seat() {
        let seats = Arc::new(Seats::default());
        let first = seats.take("greedy", 2, 3).unwrap();
        let second = seats.take("greedy", 2, 3).unwrap();
        assert!(seats.take("greedy", 2, 3).is_none());
        let third = seats.take("other", 2, 3).unwrap();
        assert!(seats.take("other", 2, 3).is_none(), "there are three seats in all");
        drop(second);
        assert!(seats.take("other", 2, 3).is_some());
        drop((first, third));
        assert!(seats.taken.lock().unwrap().is_empty());
    }
}
