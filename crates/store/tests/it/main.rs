//! Tests of the store on both databases.

#[cfg(test)]
mod api_keys;
#[cfg(test)]
mod archive;
#[cfg(test)]
mod attempts;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod backlogs;
#[cfg(test)]
mod batches;
#[cfg(test)]
mod breaker;
#[cfg(test)]
mod bulk;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod conversion;
#[cfg(test)]
mod costs;
#[cfg(test)]
mod deactivation;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod draining;
#[cfg(test)]
mod erasure;
#[cfg(test)]
mod exchanges;
#[cfg(test)]
mod expiring_payloads;
#[cfg(test)]
mod fast_path;
#[cfg(test)]
mod fault;
#[cfg(test)]
mod first_attempts;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod locks_inside;
#[cfg(test)]
mod names;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod partitions;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod plans_inside;
#[cfg(test)]
mod plans_of_tenants;
#[cfg(test)]
mod plugins;
#[cfg(test)]
mod replays;
#[cfg(test)]
mod request_keys;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod rollup_migration;
#[cfg(test)]
mod sandboxes;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod series;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod statistics;
#[cfg(test)]
mod subscriber_counts;
#[cfg(test)]
mod tail;
#[cfg(test)]
mod tenant_retention;
#[cfg(test)]
mod tenants;
#[cfg(test)]
mod versions;
