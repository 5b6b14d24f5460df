//! The dispatcher as an application uses it, on both databases.

#[cfg(test)]
mod channels;
#[cfg(test)]
mod dispatching;
#[cfg(test)]
mod fan_out;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod notifier;
#[cfg(test)]
mod plugins;
#[cfg(test)]
mod receiving;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod statements;
#[cfg(test)]
mod transactions;
#[cfg(test)]
mod transforms;
