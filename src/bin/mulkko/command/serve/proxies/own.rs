//! The proxies that ask one server, and how many of them there may be.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Proxy;

/// The most proxies that a server keeps; the first that came keep their place.
pub const MOST_PROXIES: usize = 100_000;
/// The most of those that are not believed.
pub const MOST_UNVERIFIED: usize = 10_000;
/// Why a proxy is not taken down.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LeftOut {
    /// Its name is too long.
    Name,
    /// Too many ask from its address.
    Address,
    /// There are too many.
    All,
}

impl LeftOut {
    /// For people.
    pub fn told(self) -> &'static str {
        match self {
            LeftOut::Name => "its name has over 256 bytes",
            LeftOut::Address => "too many of its address show no token",
            LeftOut::All => "there are too many",
        }
    }
}

/// The policy and the node, and whether it is believed.
pub type Key = (String, String, bool);

/// The proxies that ask here.
#[derive(Default)]
pub struct Own {
    pub proxies: HashMap<Key, Asking>,
    unverified: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A proxy that asks here.
pub struct Asking {
    pub proxy: Arc<Proxy>,
    pub seen_ms: i64,
    /// How many of its requests are waiting here.
    pub waiting: usize,
    /// The address that it counts for, where it shows nothing else.
    pub address: Option<IpAddr>,
}

impl Own {
    /// Room for one more.
    pub fn make_room(&mut self, verified: bool, address: Option<IpAddr>, most: usize) -> Result<(), LeftOut> {
        let is_full = match verified {
            true => self.proxies.len() - self.unverified >= MOST_PROXIES,
            false => self.unverified >= MOST_UNVERIFIED,
        };
        if is_full {
            return Err(LeftOut::All);
        }
        if let Some(address) = address {
            let count = self.by_address.entry(address).or_default();
            if *count >= most {
                return Err(LeftOut::Address);
            }
            *count += 1;
        }
        self.unverified += usize::from(!verified);
        Ok(())
    }

    /// Forgets who was not heard of since `oldest_ms`.
    pub fn forget(&mut self, oldest_ms: i64) {
        let Own { proxies, unverified, by_address } = self;
        proxies.retain(|(_, _, verified), asking| {
            let stays = asking.waiting > 0 || asking.seen_ms > oldest_ms;
            if !stays {
                *unverified -= usize::from(!*verified);
                if let Some(count) = asking.address.and_then(|address| by_address.get_mut(&address)) {
                    *count -= 1;
                }
            }
            stays
        });
        by_address.retain(|_, count| *count > 0);
    }
}
