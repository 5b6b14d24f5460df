//! Metrics for Prometheus.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};
use metrics_process::Collector;

use crate::metric::{self, Kind, Program};

/// The media type of the text that [`PrometheusHandle::render`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How often to move recorded durations into buckets between scrapes. Without it they would accumulate in memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why metrics cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// The recorder cannot be built, or another one has already been installed.
    #[error("metrics cannot be recorded: {0}")]
    Recorder(String),
    /// There is no Tokio runtime to run the upkeep.
    #[error("metrics can only be set up inside a Tokio runtime")]
    Runtime(#[from] tokio::runtime::TryCurrentError),
}

/// Renders the recorded metrics. Cheap to clone.
#[derive(Clone)]
pub struct PrometheusHandle {
    recorded: metrics_exporter_prometheus::PrometheusHandle,
    process: Collector,
    measures: Arc<RwLock<Vec<Measure>>>,
}

/// Sets gauges to measured values.
type Measure = Box<dyn Fn() + Send + Sync>;

impl std::fmt::Debug for PrometheusHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrometheusHandle").finish_non_exhaustive()
    }
}

/// Installs the recorder of this process, describes every metric, and starts the counters and histograms of `program`
/// that have no labels at zero. `version` is the program's version, for `webhook_build_info`.
///
/// # Errors
/// Fails if this process has a recorder already, or outside a Tokio runtime.
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

/// Builds a recorder with the buckets of every histogram in [`metric::ALL`].
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

    /// Registers `measure`, which [`PrometheusHandle::render`] calls each time to set gauges to measured values. It must
    /// not block.
    pub fn before_reading(&self, measure: impl Fn() + Send + Sync + 'static) {
        self.measures.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(measure));
    }

    fn begin(&self, program: Program, version: &'static str) {
        metric::describe();
        self.process.describe();
        metric::start_at_zero(program);
        metric::build_info(program, version);
    }

    /// Renders all metrics in Prometheus' text format ([`CONTENT_TYPE`]), with the current CPU time, memory and file
    /// descriptors of the process.
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

    /// Returns what a new recorder renders after `record`.
    fn shown(program: Program, record: impl FnOnce()) -> String {
        let recorder = recorder().unwrap();
        let handle = PrometheusHandle::of(&recorder);
        metrics::with_local_recorder(&recorder, || {
            handle.begin(program, "1.2.3");
            record();
            handle.render()
        })
    }

    /// Records one value of every metric, with placeholder labels.
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
    fn retries_are_counted_by_the_histogram() {
        let text = shown(Program::Worker, || {
            metrics::histogram!(metric::RETRY, metric::ATTEMPT_NUMBER => "2").record(1.05);
        });
        assert!(text.contains("webhook_retry_count{attempt_number=\"2\"} 1\n"), "{text}");
        assert!(text.contains("webhook_retry_bucket{attempt_number=\"2\",le=\"1.1\"} 1\n"), "{text}");
    }

    #[test]
    fn a_program_starts_only_its_own_counters_at_zero() {
        let text = shown(Program::Worker, || ());
        assert!(text.contains("webhook_leases_lost_total 0\n"), "{text}");
        assert!(text.contains("webhook_claim_duration_seconds_count 0\n"), "{text}");
        assert!(!text.contains("webhook_dispatch_duration_seconds"), "{text}");
    }

    #[test]
    fn the_process_reports_its_resources() {
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
