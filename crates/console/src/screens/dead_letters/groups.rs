//! The newest dead letters, grouped by subscriber and reason.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use postrider_api::Moment;
use postrider_api::delivery::{DeliveryList, DeliveryView};
use postrider_api::subscriber::SubscriberView;
use postrider_core::key::Scope;
use postrider_core::{DeadReason, ErrorKind, SubscriberId};

use super::API;
use crate::failure::Failure;
use crate::parts;
use crate::query::Query;
use crate::visit::Visit;

/// How many dead letters are grouped at most.
pub(super) const MOST: u64 = 1_000;

/// How many of them one call reads.
const PAGE: u64 = 250;

/// How many subscribers are looked up by name.
const NAMED: usize = 20;

/// Groups, the largest first.
pub(super) struct Groups {
    pub(super) all: Vec<Group>,
    /// Whether there are more dead letters than were grouped.
    pub(super) more: bool,
    names: BTreeMap<SubscriberId, String>,
}

/// The dead letters of a subscriber with the same reason.
pub(super) struct Group {
    pub(super) subscriber: SubscriberId,
    pub(super) reason: DeadReason,
    pub(super) count: u64,
    pub(super) oldest: Moment,
    pub(super) newest: Moment,
    /// How the newest of them failed.
    pub(super) code: Option<u16>,
    pub(super) kind: Option<ErrorKind>,
}

impl Groups {
    /// The URL of a subscriber, or its id.
    pub(super) fn name(&self, subscriber: SubscriberId) -> String {
        self.names.get(&subscriber).cloned().unwrap_or_else(|| parts::short(&subscriber.to_string()))
    }
}

pub(super) async fn read(visit: &Visit, filter: &Query) -> Result<Groups, Failure> {
    let (deliveries, more) = newest(visit, filter, MOST).await?;
    let mut groups: Vec<Group> = Vec::new();
    for delivery in &deliveries {
        add(&mut groups, delivery);
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    let mut names = BTreeMap::new();
    if visit.may(Scope::SubscribersRead) {
        for group in &groups {
            if names.len() == NAMED {
                break;
            }
            let Entry::Vacant(name) = names.entry(group.subscriber) else { continue };
            let path = format!("/v1/subscribers/{}", group.subscriber);
            let found: Option<SubscriberView> = visit.get_if_allowed(&path, &Query::default()).await?;
            // A deleted one has no URL any more.
            if let Some(found) = found {
                name.insert(found.url);
            }
        }
    }
    Ok(Groups { all: groups, more, names })
}

/// The newest dead letters, at most `most`, and whether there are more.
pub(super) async fn newest(
    visit: &Visit,
    filter: &Query,
    most: u64,
) -> Result<(Vec<DeliveryView>, bool), Failure> {
    let mut query = filter.with("limit", PAGE);
    let mut found = Vec::new();
    // A page may be empty although others follow, so the number of calls is bounded, too.
    for _ in 0..most.div_ceil(PAGE) {
        let page: DeliveryList = visit.get(API, &query).await?;
        found.extend(page.data);
        match page.next_cursor {
            Some(cursor) => query = query.with("cursor", cursor),
            None => return Ok((found, false)),
        }
    }
    Ok((found, true))
}

fn add(groups: &mut Vec<Group>, delivery: &DeliveryView) {
    let (Some(reason), Some(at)) = (delivery.dead_reason, delivery.ended_at) else { return };
    let subscriber = delivery.subscriber_id;
    match groups.iter_mut().find(|group| group.subscriber == subscriber && group.reason == reason) {
        Some(group) => {
            group.count += 1;
            if at < group.oldest {
                group.oldest = at;
            }
            if at > group.newest {
                group.newest = at;
            }
        }
        None => groups.push(Group {
            subscriber,
            reason,
            count: 1,
            oldest: at,
            newest: at,
            code: delivery.response_code,
            kind: delivery.error_kind,
        }),
    }
}
