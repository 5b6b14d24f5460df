//! The store on both databases.

#[cfg(test)]
mod batches;
#[cfg(test)]
mod blame;
#[cfg(test)]
mod breaker;
#[cfg(test)]
mod bulk;
#[cfg(test)]
mod deactivation;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod failing;
#[cfg(test)]
mod fast_path;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod series;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod statistics;
