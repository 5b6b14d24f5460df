//! Metrics for Prometheus.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};
use metrics_process::Collector;

use crate::metric::{self, Kind, Program};

/// The media type of [`PrometheusHandle::render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How often recorded durations are folded into buckets when nobody scrapes, so that they do not pile up.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why metrics are not recorded.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// The recorder cannot be built or another one is installed already.
    #[error("metrics cannot be recorded: {0}")]
    Recorder(String),
    /// Upkeep needs a Tokio runtime.
    #[error("metrics can be set up only from inside of a Tokio runtime")]
    Runtime(#[from] tokio::runtime::TryCurrentError),
}

/// Reads what has been recorded.
#[derive(Clone)]
pub struct PrometheusHandle {
    recorded: metrics_exporter_prometheus::PrometheusHandle,
    process: Collector,
    measures: Arc<RwLock<Vec<Measure>>>,
}

/// Records what is measured rather than counted.
type Measure = Box<dyn Fn() + Send + Sync>;

impl std::fmt::Debug for PrometheusHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrometheusHandle").finish_non_exhaustive()
    }
}

/// Installs the recorder for the whole process and describes every metric; label-less counters and
/// histograms of `program` begin at zero. `version` is the program's, for `webhook_build_info`.
///
/// # Errors
/// If a recorder is installed already, or outside of a Tokio runtime.
pub fn install(program: Program, version: &'static str) -> Result<PrometheusHandle, PrometheusError> {
    let runtime = tokio::runtime::Handle::try_current()?;
    let recorder = recorder()?;
    let handle = PrometheusHandle::of(&recorder);
    metrics::set_global_recorder(recorder).map_err(|error| PrometheusError::Recorder(error.to_string()))?;
    handle.begin(program, version);
    let upkept = handle.recorded.clone();
    runtime.spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP);
        loop {
            interval.tick().await;
            upkept.run_upkeep();
        }
    });
    Ok(handle)
}

/// A recorder with the buckets of every histogram of [`metric::ALL`].
fn recorder() -> Result<PrometheusRecorder, PrometheusError> {
    let mut builder = PrometheusBuilder::new();
    for metric in metric::ALL {
        if let Kind::Histogram(bounds) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)?;
        }
    }
    Ok(builder.build_recorder())
}

impl PrometheusHandle {
    fn of(recorder: &PrometheusRecorder) -> Self {
        Self { recorded: recorder.handle(), process: Collector::default(), measures: Arc::default() }
    }

    /// Has `measure` called each time before metrics are read: it records what is measured rather than
    /// counted, and must not block.
    pub fn before_reading(&self, measure: impl Fn() + Send + Sync + 'static) {
        self.measures.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(measure));
    }

    fn begin(&self, program: Program, version: &'static str) {
        metric::describe();
        self.process.describe();
        metric::start_at_zero(program);
        metric::build_info(program, version);
    }

    /// Everything recorded, in Prometheus' text format ([`CONTENT_TYPE`]), with the process's CPU time,
    /// memory and file descriptors as they are now.
    pub fn render(&self) -> String {
        self.process.collect();
        for measure in &*self.measures.read().unwrap_or_else(PoisonError::into_inner) {
            measure();
        }
        self.recorded.render()
    }
}

impl From<BuildError> for PrometheusError {
    fn from(error: BuildError) -> Self {
        Self::Recorder(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a fresh recorder shows after `record`.
    fn shown(program: Program, record: impl FnOnce()) -> String {
        let recorder = recorder().unwrap();
        let handle = PrometheusHandle::of(&recorder);
        metrics::with_local_recorder(&recorder, || {
            handle.begin(program, "1.2.3");
            record();
            handle.render()
        })
    }

    /// Records one of everything, whatever its labels.
    fn record_all() {
        for metric in metric::ALL {
            let labels: Vec<_> = metric.labels.iter().map(|key| metrics::Label::new(*key, "x")).collect();
            match metric.kind {
                Kind::Counter => metrics::counter!(metric.name, labels).increment(1),
                Kind::Gauge => metrics::gauge!(metric.name, labels).set(1.0),
                Kind::Histogram(_) => metrics::histogram!(metric.name, labels).record(0.002),
            }
        }
    }

    #[test]
    fn every_metric_has_help_and_type() {
        let text = shown(Program::Whole, record_all);
        for metric in metric::ALL {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            assert!(
                text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)),
                "{}:\n{text}",
                metric.name
            );
            assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{}:\n{text}", metric.name);
        }
        assert!(text.contains("webhook_build_info{program=\"postrider\",version=\"1.2.3\"} 1"), "{text}");
    }

    #[test]
    fn every_series_is_described() {
        let text = shown(Program::Whole, record_all);
        let described: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            assert!(described.contains(&base) || described.contains(&name), "{line}");
        }
    }

    #[test]
    fn a_retry_shows_as_the_designs_count() {
        let text = shown(Program::Worker, || {
            metrics::histogram!(metric::RETRY, metric::ATTEMPT_NUMBER => "2").record(1.05);
        });
        assert!(text.contains("webhook_retry_count{attempt_number=\"2\"} 1\n"), "{text}");
        assert!(text.contains("webhook_retry_bucket{attempt_number=\"2\",le=\"1.1\"} 1\n"), "{text}");
    }

    #[test]
    fn a_program_begins_its_own_counters_at_zero_and_not_the_others() {
        let text = shown(Program::Worker, || ());
        assert!(text.contains("webhook_leases_lost_total 0\n"), "{text}");
        assert!(text.contains("webhook_claim_duration_seconds_count 0\n"), "{text}");
        assert!(!text.contains("webhook_dispatch_duration_seconds"), "{text}");
    }

    #[test]
    fn the_process_is_measured() {
        let text = shown(Program::Worker, || ());
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
        ] {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}:\n{text}");
        }
        let line = text.lines().find(|line| line.starts_with("process_resident_memory_bytes ")).unwrap();
        assert!(line.split(' ').nth(1).unwrap().parse::<f64>().unwrap() > 100_000.0, "{line}");
    }
}
