//! A parser of Prometheus' text format.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use postrider_testkit::Api;

/// The contents of `/metrics` of a process.
#[derive(Debug)]
pub(crate) struct Exposition {
    pub(crate) text: String,
    samples: Vec<Sample>,
}

/// One sample.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Exposition {
    pub(crate) async fn of(telemetry: &Api) -> Self {
        let answer = telemetry.send(Method::GET, "/metrics", &[], "").await;
        assert_eq!(answer.status, 200);
        let text = answer.text();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line}"))).collect();
        Self { text, samples }
    }

    /// The names of its samples; a histogram has three.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.samples.iter().map(|sample| sample.name.as_str()).collect()
    }

    /// The samples with a name.
    pub(crate) fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }
}

/// Adds up the samples with a name over several processes, grouped by these labels. Zero sums are left out.
pub(crate) fn sums(all: &[Exposition], name: &str, labels: &[&str]) -> BTreeMap<Vec<String>, f64> {
    let mut sums = BTreeMap::new();
    for sample in all.iter().flat_map(|exposition| exposition.samples(name)) {
        let key = labels.iter().map(|label| sample.labels.get(*label).cloned().unwrap_or_default()).collect();
        *sums.entry(key).or_default() += sample.value;
    }
    sums.retain(|_, sum| *sum > 0.0);
    sums
}

/// `name{label="value",…} 1.5`
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, mut rest) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}')?),
        None => (series, ""),
    };
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    escaped => value.push(escaped),
                },
                (_, character) => value.push(character),
            }
        };
        rest = quoted[end + 1..].trim_start_matches(',');
        assert!(labels.insert(label.to_owned(), value).is_none(), "{label} twice in {line}");
    }
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

#[test]
fn lines_are_read() {
    let read = |line| {
        sample(line).map(|sample| (sample.name, sample.labels.into_iter().collect::<Vec<_>>(), sample.value))
    };
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(read("up 1"), Some(("up".to_owned(), Vec::new(), 1.0)));
    assert_eq!(
        read(r#"a_total{x="b, c}",y="\"\\"} 2.5e3"#),
        Some(("a_total".to_owned(), vec![label("x", "b, c}"), label("y", "\"\\")], 2500.0))
    );
    assert_eq!(
        read(r#"a{le="+Inf"} +Inf"#),
        Some(("a".to_owned(), vec![label("le", "+Inf")], f64::INFINITY))
    );
    assert_eq!((read("a"), read(r#"a{x="} 1"#)), (None, None));
}
