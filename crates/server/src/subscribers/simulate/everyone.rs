//! What becomes of an event at each subscriber.

use postrider_api::simulate::SimulationList;
use postrider_core::Secret;
use postrider_core::script::Script;
use postrider_core::signing::Signer;
use postrider_store::subscribers::SubscriberFilter;
use postrider_store::{PageRequest, Store};

use super::{Simulated, recipient_of, simulated};
use crate::caller::Caller;
use crate::problem::Problem;
use crate::state::ApiState;

/// The most subscribers that are simulated: the newest.
const MOST: u16 = 50;

/// Simulates a delivery to each subscriber that the caller reaches, without reading secrets. Those that match come first.
pub(super) async fn simulated_for_all(
    event: &Simulated,
    store: &Store,
    caller: &Caller,
    script: Option<&Script>,
    state: &ApiState,
) -> Result<SimulationList, Problem> {
    let ids = caller.subscribers().map(<[_]>::to_vec);
    let filter = SubscriberFilter { ids, ..SubscriberFilter::default() };
    let page = PageRequest { limit: MOST, before: None };
    let found = store.find_subscribers(&caller.tenant, &filter, page).await?;
    let random = state.store.ids().random();
    let mut data = Vec::with_capacity(found.items.len());
    for subscriber in found.items {
        let signer = Signer::new(&Secret::generate(random), &[]);
        let recipient = recipient_of(subscriber, signer, false);
        data.push(simulated(event, &recipient, script, state).await?);
    }
    data.sort_by_key(|simulation| !simulation.matched);
    Ok(SimulationList { data, truncated: found.next.is_some() })
}
