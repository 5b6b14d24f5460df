//! What a viewer wants to see.

use postrider_core::{DeliveryStatus, EventPattern, EventType, SubscriberId};
use postrider_store::tail::TailWhat;

use crate::problem::Problem;

/// How many types a viewer may name.
const MAX_TYPES: usize = 10;

/// What a viewer wants to see. All that is given must fit.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    types: Vec<EventPattern>,
    pub(crate) subscriber: Option<SubscriberId>,
    status: Option<DeliveryStatus>,
}

impl Filter {
    pub(crate) fn new(
        types: Option<&str>,
        subscriber: Option<SubscriberId>,
        status: Option<DeliveryStatus>,
    ) -> Result<Self, Problem> {
        let types = types.into_iter().flat_map(|types| types.split(',')).map(|one| one.trim().parse());
        let types = types.collect::<Result<Vec<EventPattern>, _>>();
        let types = types.map_err(|error| Problem::field("types", &error))?;
        if types.len() > MAX_TYPES {
            return Err(Problem::field("types", &format!("must have at most {MAX_TYPES} types")));
        }
        Ok(Self { types, subscriber, status })
    }

    /// Whether the viewer can see any event. Events have neither a subscriber nor a status.
    pub(crate) fn wants_events(&self) -> bool {
        self.subscriber.is_none() && self.status.is_none()
    }

    pub(crate) fn wants(&self, what: &TailWhat) -> bool {
        match what {
            TailWhat::Event(event) => self.wants_events() && self.wants_type(&event.event_type),
            TailWhat::Delivery(happened) => {
                self.wants_type(&happened.event_type)
                    && self.subscriber.is_none_or(|subscriber| subscriber == happened.subscriber)
                    && self.status.is_none_or(|status| status == happened.status)
            }
            TailWhat::LeftOut(_) => true,
        }
    }

    fn wants_type(&self, event_type: &EventType) -> bool {
        self.types.is_empty() || self.types.iter().any(|pattern| pattern.matches(event_type))
    }
}
