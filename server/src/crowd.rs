//! How many of something each client network holds now, so that one cannot take everything.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::rate::network_of;

/// Counts what each client network holds.
#[derive(Debug)]
pub struct Crowd {
    each_max: usize,
    held: Mutex<BTreeMap<IpAddr, usize>>,
}

/// One thing held; given back when dropped.
#[derive(Debug)]
pub struct Held {
    crowd: Arc<Crowd>,
    network: IpAddr,
}

impl Crowd {
    /// Nobody holds anything yet, and no network more than `each_max`.
    #[must_use]
    pub const fn new(each_max: usize) -> Self {
        Self {
            each_max,
            held: Mutex::new(BTreeMap::new()),
        }
    }

    /// Takes one for the network of `address`; `None` when it holds as many as it may.
    #[must_use]
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Held> {
        let network = network_of(address);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(network).or_default();
        // At the limit the entry is not new: `each_max` is not zero.
        if *count >= self.each_max {
            return None;
        }
        *count += 1;
        Some(Held {
            crowd: Arc::clone(self),
            network,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self
            .crowd
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_no_more_than_its_share_and_leaves_nothing_behind() {
        let crowd = Arc::new(Crowd::new(2));
        let take = |address: &str| crowd.take(address.parse().expect("an address"));
        let (first, second) = (take("2001:db8::1"), take("2001:db8::2"));
        assert!(first.is_some() && second.is_some() && take("2001:db8::3").is_none());
        let other = take("192.0.2.1");
        assert!(other.is_some(), "others are untouched");
        drop(first);
        let third = take("2001:db8::3");
        assert!(third.is_some(), "what was given back may be taken again");
        drop((second, third, other));
        assert!(crowd.held.lock().unwrap().is_empty());
    }
}
