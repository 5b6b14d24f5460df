//! Modules that behave and modules that do not.

#[cfg(test)]
mod bombs;
#[cfg(test)]
mod example;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod modules;
#[cfg(test)]
mod random;
