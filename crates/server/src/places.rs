//! Places for connections: so many in all, and if configured so many of one client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places for the connections of a [`Server`](crate::Server).
#[derive(Clone, Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    clients: Option<Clients>,
}

/// How many places each client has taken.
#[derive(Clone, Debug)]
struct Clients {
    most: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place that no client has taken yet.
#[derive(Debug)]
pub(crate) struct Free {
    permit: OwnedSemaphorePermit,
    clients: Option<Clients>,
}

/// A client's place, until dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    of: Option<(Clients, IpAddr)>,
}

impl Places {
    pub(crate) fn new(all: usize, of_one_client: Option<usize>) -> Self {
        let clients = of_one_client.map(|most| Clients { most, taken: Arc::default() });
        Self { all: Arc::new(Semaphore::new(all)), clients }
    }

    /// Returns whether there is no place for another connection.
    pub fn all_taken(&self) -> bool {
        self.all.available_permits() == 0
    }

    /// Waits for a place. The semaphore is never closed, so there will be one.
    pub(crate) async fn free(&self) -> Option<Free> {
        let permit = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Free { permit, clients: self.clients.clone() })
    }

    pub(crate) fn try_free(&self) -> Option<Free> {
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Free { permit, clients: self.clients.clone() })
    }
}

impl Free {
    /// Gives the place to a client, unless it has all that it may have.
    pub(crate) fn take(self, address: IpAddr) -> Option<Place> {
        let Self { permit, clients } = self;
        let Some(clients) = clients else { return Some(Place { _permit: permit, of: None }) };
        let client = client(address);
        {
            let mut taken = clients.taken();
            let count = taken.entry(client).or_default();
            if *count >= clients.most {
                return None;
            }
            *count += 1;
        }
        Some(Place { _permit: permit, of: Some((clients, client)) })
    }
}

impl Clients {
    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((clients, client)) = &self.of else { return };
        let mut taken = clients.taken();
        if let Some(count) = taken.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                taken.remove(client);
            }
        }
    }
}

/// The address that stands for a client: an IPv6 network of 64 bits is usually one client's.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            [a, b, c, d, 0, 0, 0, 0].into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Places, address: &str) -> Option<Place> {
        places.try_free()?.take(address.parse().unwrap())
    }

    #[test]
    fn a_client_takes_no_more_than_it_may() {
        let places = Places::new(5, Some(2));
        let first = take(&places, "192.0.2.1").unwrap();
        let _second = take(&places, "::ffff:192.0.2.1").unwrap();
        assert!(take(&places, "192.0.2.1").is_none());
        let _others = [take(&places, "2001:db8::1").unwrap(), take(&places, "2001:db8::2").unwrap()];
        assert!(take(&places, "2001:db8::3:0:0:1").is_none(), "the same network");
        assert!(!places.all_taken());
        let _last = take(&places, "2001:db8:0:1::1").unwrap();
        assert!(places.all_taken() && places.try_free().is_none());
        drop(first);
        assert!(take(&places, "192.0.2.1").is_some(), "a place that was left");
    }
}
