//! What is known of names: their addresses, for as long as these are valid and in need for a day longer, and for a short
//! time that they could not be resolved.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

use crate::resolve::ResolveError;

/// How many names are known. Those that were not asked for longest are forgotten.
const MOST: usize = 10_000;

/// For how long addresses are valid, whatever the name servers say.
const VALID: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(5);
/// How much longer they are used if no name server can be asked (RFC 8767, §5).
const KEPT: Duration = Duration::from_hours(24);
/// For how long a name without addresses is not asked for again, whatever the name servers say.
const NOTHING: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
/// For how long a name whose servers did not answer is not asked for again: the first time, and at most.
const SILENT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

/// The names that were asked for.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Box<str>, Entry>);

#[derive(Debug)]
struct Entry {
    used_at: Instant,
    good: Option<Good>,
    failure: Option<Failed>,
}

#[derive(Debug)]
struct Good {
    addresses: Vec<IpAddr>,
    until: Instant,
}

#[derive(Debug)]
struct Failed {
    error: ResolveError,
    until: Instant,
    /// How often in a row the servers did not answer; zero if they did.
    silences: u32,
}

/// What is known of a name.
#[derive(Debug)]
pub(super) enum Known {
    Nothing,
    Valid(Vec<IpAddr>),
    /// These addresses were valid. Whether to ask again now.
    Stale(Vec<IpAddr>, bool),
    /// It could not be resolved a moment ago.
    Failed(ResolveError),
}

impl Names {
    pub(super) fn get(&mut self, name: &str) -> Known {
        let now = Instant::now();
        let Some(entry) = self.0.get_mut(name) else { return Known::Nothing };
        entry.used_at = now;
        let failure = entry.failure.as_ref().filter(|failure| now < failure.until);
        match (&entry.good, failure) {
            (Some(good), _) if now < good.until => Known::Valid(good.addresses.clone()),
            (Some(good), failure) if now < good.until + KEPT => {
                Known::Stale(good.addresses.clone(), failure.is_none())
            }
            (_, Some(failure)) => Known::Failed(failure.error.clone()),
            _ => Known::Nothing,
        }
    }

    /// Returns whether the servers of a name did not answer the last time.
    pub(super) fn is_suspect(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|entry| {
            entry.good.is_none() && entry.failure.as_ref().is_some_and(|failure| failure.silences > 0)
        })
    }

    /// Takes note of addresses.
    pub(super) fn found(&mut self, name: &str, addresses: Vec<IpAddr>, ttl: Duration) {
        let entry = self.entry(name);
        let until = entry.used_at + ttl.clamp(*VALID.start(), *VALID.end());
        (entry.good, entry.failure) = (Some(Good { addresses, until }), None);
    }

    /// Takes note that the servers of a name know no address.
    pub(super) fn nothing(&mut self, name: &str, ttl: Option<Duration>, error: ResolveError) {
        let entry = self.entry(name);
        let ttl = ttl.unwrap_or_default().clamp(*NOTHING.start(), *NOTHING.end());
        let failure = Failed { error, until: entry.used_at + ttl, silences: 0 };
        (entry.good, entry.failure) = (None, Some(failure));
    }

    /// Takes note that the servers of a name did not answer. Returns addresses that were valid before.
    pub(super) fn silent(&mut self, name: &str, error: ResolveError) -> Option<Vec<IpAddr>> {
        let entry = self.entry(name);
        let before = entry.failure.as_ref().map_or(0, |failure| failure.silences);
        let pause = SILENT.0.saturating_mul(1 << before.min(8)).min(SILENT.1);
        entry.failure = Some(Failed { error, until: entry.used_at + pause, silences: before + 1 });
        self.stale(name)
    }

    /// Takes note that the servers of a name with addresses take long: these are used for a while without asking again.
    pub(super) fn postpone(&mut self, name: &str) {
        let entry = self.entry(name);
        let silences = entry.failure.as_ref().map_or(0, |failure| failure.silences);
        let until = entry.used_at + SILENT.0;
        entry.failure = Some(Failed { error: ResolveError::Silent, until, silences });
    }

    /// Returns addresses that were valid a while ago.
    pub(super) fn stale(&self, name: &str) -> Option<Vec<IpAddr>> {
        let good = self.0.get(name)?.good.as_ref()?;
        (Instant::now() < good.until + KEPT).then(|| good.addresses.clone())
    }

    /// Returns up to `most` names that had addresses, those first whose addresses are no longer valid; and how many those
    /// are. Nobody but their own servers can answer for these, whereas a resolver may remember the others.
    pub(super) fn proven(&self, most: usize) -> (Vec<Box<str>>, usize) {
        let now = Instant::now();
        let (mut expired, mut valid) = (Vec::new(), Vec::new());
        for (name, entry) in &self.0 {
            let Some(good) = &entry.good else { continue };
            let list = if good.until <= now { &mut expired } else { &mut valid };
            if list.len() < most {
                list.push(name.clone());
            }
        }
        let count = expired.len();
        expired.extend(valid);
        expired.truncate(most);
        (expired, count)
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        let now = Instant::now();
        if self.0.len() >= MOST && !self.0.contains_key(name) {
            self.forget();
        }
        let entry = self.0.entry(name.into()).or_insert(Entry { used_at: now, good: None, failure: None });
        entry.used_at = now;
        entry
    }

    /// Forgets a tenth of the names.
    fn forget(&mut self) {
        let mut used: Vec<Instant> = self.0.values().map(|entry| entry.used_at).collect();
        let (_, newest, _) = used.select_nth_unstable(MOST / 10);
        let newest = *newest;
        let mut most = self.0.len().saturating_sub(MOST - MOST / 10);
        self.0.retain(|_, entry| {
            let forgotten = most > 0 && entry.used_at <= newest;
            most -= usize::from(forgotten);
            !forgotten
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn found(names: &mut Names, name: &str, ttl: u64) {
        names.found(name, vec![ADDRESS], Duration::from_secs(ttl));
    }

    async fn pass(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_valid_for_their_ttl_within_bounds() {
        for (ttl, valid) in [(0, 1), (60, 60), (86_400, 300)] {
            let mut names = Names::default();
            found(&mut names, "a.test", ttl);
            pass(Duration::from_millis(valid * 1000 - 1)).await;
            assert!(matches!(names.get("a.test"), Known::Valid(_)), "{ttl}");
            pass(Duration::from_millis(1)).await;
            assert!(matches!(names.get("a.test"), Known::Stale(_, true)), "{ttl}");
            pass(KEPT).await;
            assert!(matches!(names.get("a.test"), Known::Nothing), "{ttl}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_remembered_longer_each_time_and_forgotten_with_an_answer() {
        let mut names = Names::default();
        for pause in [5, 10, 20, 30, 30] {
            assert_eq!(names.silent("a.test", ResolveError::Silent), None);
            pass(Duration::from_millis(pause * 1000 - 1)).await;
            assert!(matches!(names.get("a.test"), Known::Failed(ResolveError::Silent)), "{pause}");
            pass(Duration::from_millis(1)).await;
            assert!(matches!(names.get("a.test"), Known::Nothing), "{pause}");
            assert!(names.is_suspect("a.test"));
        }
        found(&mut names, "a.test", 60);
        assert!(!names.is_suspect("a.test"));
        pass(Duration::from_mins(1)).await;
        assert_eq!(names.silent("a.test", ResolveError::Silent), Some(vec![ADDRESS]));
        assert!(matches!(names.get("a.test"), Known::Stale(_, false)));
        assert!(!names.is_suspect("a.test"), "it has addresses");
        pass(SILENT.0).await;
        assert!(matches!(names.get("a.test"), Known::Stale(_, true)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_gone_has_no_addresses_any_more() {
        let mut names = Names::default();
        found(&mut names, "a.test", 60);
        names.nothing("a.test", Some(Duration::from_hours(1)), ResolveError::NoAddress);
        assert!(matches!(names.get("a.test"), Known::Failed(ResolveError::NoAddress)));
        assert!(!names.is_suspect("a.test"));
        pass(*NOTHING.end()).await;
        assert!(matches!(names.get("a.test"), Known::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_names_is_bounded() {
        let mut names = Names::default();
        for number in 0..MOST {
            found(&mut names, &number.to_string(), 60);
            pass(Duration::from_millis(1)).await;
        }
        assert!(matches!(names.get("0"), Known::Valid(_)));
        pass(Duration::from_millis(1)).await;
        found(&mut names, "one more", 60);
        assert_eq!(names.0.len(), MOST - MOST / 10 + 1);
        let knows = |names: &mut Names, name: &str| !matches!(names.get(name), Known::Nothing);
        assert!(knows(&mut names, "0") && knows(&mut names, "one more") && !knows(&mut names, "1"));
        // Even if all were asked for at once.
        for number in 0..2 * MOST {
            found(&mut names, &format!("{number} again"), 60);
        }
        assert!(names.0.len() <= MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn names_whose_addresses_have_expired_prove_more() {
        let mut names = Names::default();
        found(&mut names, "valid", 300);
        found(&mut names, "expired", 1);
        names.silent("silent", ResolveError::Silent);
        pass(Duration::from_secs(1)).await;
        assert_eq!(names.proven(3), (vec!["expired".into(), "valid".into()], 1));
        assert_eq!(names.proven(1), (vec!["expired".into()], 1));
    }
}
