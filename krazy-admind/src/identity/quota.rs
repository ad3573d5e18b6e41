//! A quota: a maximum number of permits in all, and per holder.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// The permits held, by holder.
#[derive(Debug)]
pub(crate) struct Quota<K: Eq + Hash> {
    held: Mutex<HashMap<K, usize>>,
}

/// One permit; returned when dropped.
#[derive(Debug)]
pub(crate) struct Permit<K: Eq + Hash> {
    quota: Arc<Quota<K>>,
    holder: K,
}

impl<K: Eq + Hash> Default for Quota<K> {
    fn default() -> Self {
        Quota { held: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone> Quota<K> {
    /// Returns a permit for `holder`, or `None` if it holds `per_holder` already, or all holders together `total`.
    pub(crate) fn acquire(self: &Arc<Self>, holder: K, per_holder: usize, total: usize) -> Option<Permit<K>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.values().sum::<usize>() >= total {
            return None;
        }
        let own = held.entry(holder.clone()).or_default();
        // With a limit of at least 1, this entry is not empty: none is left behind for a holder without permits.
        if *own >= per_holder {
            return None;
        }
        *own += 1;
        Some(Permit { quota: Arc::clone(self), holder })
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut held = self.quota.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_cannot_exhaust_the_quota() {
        let quota = Arc::new(Quota::default());
        let first = quota.acquire("greedy", 2, 3).unwrap();
        let second = quota.acquire("greedy", 2, 3).unwrap();
        assert!(quota.acquire("greedy", 2, 3).is_none());
        let third = quota.acquire("other", 2, 3).unwrap();
        assert!(quota.acquire("other", 2, 3).is_none(), "the total is three");
        drop(second);
        assert!(quota.acquire("other", 2, 3).is_some());
        drop((first, third));
        assert!(quota.held.lock().unwrap().is_empty());
    }
}
