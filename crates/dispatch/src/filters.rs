//! The filters of subscribers: compiled once for each text, and asked for each event that matches by type and channels.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use postrider_core::{Channels, EventData, EventId, Expression, ExpressionId, SubscriberId};
use postrider_filter::{Facts, Filter, Rejected, Subject};
use postrider_store::intake::{Match, Sift, StoredEvent};
use postrider_telemetry::metric;

/// How many compiled filters are kept. When they are too many all are forgotten; those in use soon return.
const MAX_FILTERS: usize = 10_000;

/// Filters are asked on a thread of their own if the data has more bytes than this, or there are more filters.
const LARGE: usize = 4 * 1024;
const MANY: usize = 32;

/// All compiled filters. A text that cannot be compiled is remembered, too.
#[derive(Clone)]
pub(crate) struct Filters {
    kept: Arc<Mutex<HashMap<ExpressionId, Compiled>>>,
    most: usize,
}

/// The compiled filters of some subscribers. They stay when others are forgotten.
#[derive(Default)]
pub(crate) struct Known(HashMap<ExpressionId, Compiled>);

type Compiled = Arc<Result<Filter, Rejected>>;

/// What filters ask of an event. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) id: EventId,
    pub(crate) channels: Option<Channels>,
    pub(crate) content: Content,
}

/// The content of an event, before it is stored or afterwards.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    New { event_type: Arc<str>, agent_id: Arc<str>, timestamp: i64, data: EventData },
    Stored(Bytes),
}

impl Default for Filters {
    fn default() -> Self {
        Self { kept: Arc::default(), most: MAX_FILTERS }
    }
}

impl Filters {
    /// Returns the filters of these that are compiled.
    pub(crate) fn known<'m>(&self, matched: impl Iterator<Item = &'m Match>) -> Known {
        let kept = self.lock();
        let filters = matched.filter_map(|matched| matched.filter);
        Known(filters.filter_map(|filter| Some((filter, Arc::clone(kept.get(&filter)?)))).collect())
    }

    /// Compiles those of these texts that are not among `known`, and adds them.
    pub(crate) async fn learn(&self, known: &mut Known, mut texts: Vec<Expression>) {
        texts.retain(|text| !known.0.contains_key(&text.id()));
        if texts.is_empty() {
            return;
        }
        let compile = move || {
            let compiled = texts.iter().map(|text| (text.id(), Arc::new(Filter::compile(text))));
            compiled.collect::<Vec<_>>()
        };
        let Some(compiled) = blocking(compile).await else { return };
        known.0.extend(compiled.iter().cloned());
        let mut kept = self.lock();
        if kept.len() + compiled.len() > self.most {
            kept.clear();
        }
        kept.extend(compiled);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ExpressionId, Compiled>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Returns those of these subscribers whose filters are not here.
    pub(crate) fn lacks<'m>(&self, matched: impl Iterator<Item = &'m Match>) -> Vec<SubscriberId> {
        let is_lacking =
            |matched: &&Match| matched.filter.is_some_and(|filter| !self.0.contains_key(&filter));
        matched.filter(is_lacking).map(|matched| matched.subscriber).collect()
    }

    /// Returns those that get an event. A filter that fails lets the event pass: losing it would be worse.
    pub(crate) async fn passing(&self, event: Asked, matched: &[Match]) -> Vec<SubscriberId> {
        let asks = |filter: Option<ExpressionId>| match filter {
            None => Asks::Nothing,
            Some(filter) => {
                self.0.get(&filter).map_or(Asks::Unknown, |filter| Asks::Filter(Arc::clone(filter)))
            }
        };
        let filters: Vec<_> =
            matched.iter().map(|matched| (matched.subscriber, asks(matched.filter))).collect();
        if event.content.len() <= LARGE && filters.len() <= MANY {
            return ask(&event, filters);
        }
        let everyone = || matched.iter().map(|matched| matched.subscriber).collect();
        blocking(move || ask(&event, filters)).await.unwrap_or_else(everyone)
    }
}

#[async_trait]
impl Sift for Filters {
    async fn sift(
        &self,
        event: &StoredEvent,
        matched: Vec<Match>,
        texts: Vec<Expression>,
    ) -> Vec<SubscriberId> {
        let Some(envelope) = &event.envelope else {
            // The deliveries of an event whose payload is gone end without a request.
            return matched.into_iter().map(|matched| matched.subscriber).collect();
        };
        let mut known = self.known(matched.iter());
        self.learn(&mut known, texts).await;
        let content = Content::Stored(envelope.clone());
        known.passing(Asked { id: event.id, channels: event.channels.clone(), content }, &matched).await
    }
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filters").field("known", &self.lock().len()).finish()
    }
}

/// What a subscriber asks of an event.
enum Asks {
    Nothing,
    Filter(Compiled),
    /// Its filter was forgotten or changed a moment ago.
    Unknown,
}

/// Runs work that takes long on a thread for such work. `None` if the runtime is shutting down.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::New { data, .. } => data.as_json().len(),
            Self::Stored(envelope) => envelope.len(),
        }
    }
}

impl Asked {
    /// Parses the event's data. `None` if that is impossible.
    fn subject(&self) -> Option<Subject> {
        match &self.content {
            Content::New { event_type, agent_id, timestamp, data } => {
                let channels: Vec<&str> = self.channels.iter().flat_map(Channels::iter).collect();
                let (id, timestamp) = (&*self.id.to_string(), *timestamp);
                let facts = Facts { id, event_type, agent_id, timestamp, channels: &channels };
                Subject::new(&facts, data.as_json()).ok()
            }
            Content::Stored(envelope) => Subject::of_envelope(self.id, self.channels.as_ref(), envelope).ok(),
        }
    }
}

fn ask(event: &Asked, filters: Vec<(SubscriberId, Asks)>) -> Vec<SubscriberId> {
    let subject = event.subject();
    let (mut matched, mut missed, mut failed) = (0, 0, 0);
    let mut passes = |subscriber: SubscriberId, asks: Asks| {
        let answer = match (&asks, &subject) {
            (Asks::Nothing, _) => return true,
            (Asks::Filter(filter), Some(subject)) => match filter.as_ref() {
                Ok(filter) => filter.matches(subject).map_err(|error| error.to_string()),
                Err(rejected) => Err(rejected.to_string()),
            },
            (Asks::Filter(_), None) => Err("the event's data cannot be read".to_owned()),
            (Asks::Unknown, _) => Err("the filter has just been changed".to_owned()),
        };
        match answer {
            Ok(true) => matched += 1,
            Ok(false) => {
                missed += 1;
                return false;
            }
            Err(error) => {
                failed += 1;
                tracing::debug!(event = %event.id, %subscriber, error, "filter failed; the event is delivered");
            }
        }
        true
    };
    let passing =
        filters.into_iter().filter_map(|(subscriber, asks)| passes(subscriber, asks).then_some(subscriber));
    let passing = passing.collect();
    for (result, count) in [("matched", matched), ("missed", missed), ("error", failed)] {
        if count > 0 {
            metrics::counter!(metric::FILTERS, metric::RESULT => result).increment(count);
        }
    }
    passing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(number: u128, text: &str) -> (Match, Expression) {
        let expression: Expression = text.parse().unwrap();
        let subscriber = SubscriberId::from_uuid(sea_orm::prelude::Uuid::from_u128(number));
        (Match { subscriber, filter: Some(expression.id()) }, expression)
    }

    #[tokio::test]
    async fn filters_in_use_stay_when_others_are_forgotten() {
        let filters = Filters { most: 1, ..Filters::default() };
        let (never, one) = matched(1, "false");
        let (also_never, two) = matched(2, "1 > 2");
        filters.learn(&mut Known::default(), vec![one]).await;
        let both = [never, also_never];
        let mut known = filters.known(both.iter());
        assert_eq!(known.lacks(both.iter()), [also_never.subscriber]);
        filters.learn(&mut known, vec![two]).await;
        let content =
            Content::Stored(br#"{"event":"a.b","timestamp":1,"agent_id":"a","data":{}}"#[..].into());
        let id = EventId::from_uuid(sea_orm::prelude::Uuid::from_u128(3));
        assert_eq!(known.passing(Asked { id, channels: None, content }, &both).await, []);
    }
}
