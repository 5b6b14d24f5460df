//! Percentiles.

/// Exact times in microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    pub(crate) fn new(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        Self(micros)
    }

    /// The percentile by nearest rank, in milliseconds.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let rank = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        let micros = self.0.get(rank.clamp(1, self.0.len().max(1)) - 1).copied().unwrap_or_default();
        f64::from(micros) / 1000.0
    }
}
