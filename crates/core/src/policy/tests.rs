//! Bounds of the fields, and their JSON form.

use std::fmt;

use proptest::prelude::*;

use super::*;

fn invalid_field(json: &str) -> Option<&'static str> {
    Policy::try_from(serde_json::from_str::<PolicyFields>(json).unwrap()).err().map(|error| error.field)
}

#[test]
fn a_value_out_of_bounds_is_rejected_by_its_fields_name() {
    for (json, expected) in [
        (r"{}", None),
        (r#"{"max_attempts":1}"#, None),
        (r#"{"max_attempts":30}"#, None),
        (r#"{"max_attempts":0}"#, Some("max_attempts")),
        (r#"{"max_attempts":31}"#, Some("max_attempts")),
        (r#"{"schedule":[]}"#, Some("schedule")),
        (r#"{"schedule":["25h"]}"#, Some("schedule")),
        (r#"{"schedule":[1],"exponential":{"base":1,"factor":2,"cap":3}}"#, Some("exponential")),
        (r#"{"exponential":{"base":0,"factor":2,"cap":3}}"#, Some("exponential.base")),
        (r#"{"exponential":{"base":1,"factor":0.5,"cap":3}}"#, Some("exponential.factor")),
        (r#"{"exponential":{"base":2,"factor":2,"cap":1}}"#, Some("exponential.cap")),
        (r#"{"jitter_percent":50}"#, None),
        (r#"{"jitter_percent":51}"#, Some("jitter_percent")),
        (r#"{"timeout":"999ms"}"#, Some("timeout")),
        (r#"{"timeout":60}"#, None),
        (r#"{"timeout":61}"#, Some("timeout")),
        (r#"{"concurrency":0}"#, Some("concurrency")),
        (r#"{"rate_limit":{"per_second":0}}"#, Some("rate_limit.per_second")),
        (
            r#"{"rate_limit":{"per_second":1e400}}"#.replace("1e400", "10001").as_str(),
            Some("rate_limit.per_second"),
        ),
        (r#"{"rate_limit":{"per_second":50,"burst":0}}"#, Some("rate_limit.burst")),
        (r#"{"rate_limit":{"per_second":0.5,"burst":10}}"#, None),
    ] {
        assert_eq!(invalid_field(json), expected, "{json}");
    }
}

/// Nothing, or one of the values below, at and above the bounds, with whether it is valid.
fn around<T: Copy + fmt::Debug + PartialOrd + 'static>(
    edges: &'static [T],
    valid: std::ops::RangeInclusive<T>,
) -> impl Strategy<Value = Option<(T, bool)>> {
    prop::option::of(prop::sample::select(edges).prop_map(move |value| (value, valid.contains(&value))))
}

fn millis(span: u64) -> Span {
    Span(Duration::from_millis(span))
}

const DAY: u64 = 86_400_000;

proptest! {
    #[test]
    fn the_error_names_one_of_the_invalid_fields(
        attempts in around(&[0, 1, 2, 29, 30, 31, u32::MAX], 1..=30),
        jitter in around(&[0_u8, 1, 50, 51, 255], 0..=50),
        timeout in around(&[0, 999, 1000, 60_000, 60_001, u64::MAX], 1000..=60_000),
        concurrency in around(&[0, 1, 10_000, 10_001, u32::MAX], 1..=10_000),
        per_second in around(
            &[f64::NEG_INFINITY, -1.0, 0.0, 1e-9, 0.5, 50.0, 10_000.0, 10_000.1, f64::INFINITY, f64::NAN],
            0.5..=10_000.0,
        ),
        burst in around(&[0, 1, 10_000, 10_001, u32::MAX], 1..=10_000),
        steps in around(&[0, 1, 30, 31], 1..=30),
        step in prop::sample::select(&[0, 1, DAY, DAY + 1][..]),
        base in around(&[0, 99, 100, 1000], 100..=1000),
        factor in prop::sample::select(&[0.0, 0.99, 1.0, 10.0, 10.1, f64::NAN, f64::INFINITY][..]),
        cap in prop::sample::select(&[0, 99, 1000, DAY, DAY + 1][..]),
    ) {
        let fields = PolicyFields {
            max_attempts: attempts.map(|(value, _)| value),
            schedule: steps.map(|(count, _)| vec![millis(step); count]),
            exponential: base.map(|(base, _)| ExponentialFields { base: millis(base), factor, cap: millis(cap) }),
            jitter_percent: jitter.map(|(value, _)| value),
            timeout: timeout.map(|(value, _)| millis(value)),
            concurrency: concurrency.map(|(value, _)| value),
            rate_limit: per_second
                .map(|(per_second, _)| RateLimitFields { per_second, burst: burst.map(|(value, _)| value) }),
            ordered: None,
            method: None,
            compression: None,
        };
        let is_invalid = |valid: Option<bool>| valid == Some(false);
        let mut invalid = Vec::new();
        let mut judge = |field, is_invalid: bool| if is_invalid { invalid.push(field) };
        judge("max_attempts", is_invalid(attempts.map(|(_, valid)| valid)));
        judge("jitter_percent", is_invalid(jitter.map(|(_, valid)| valid)));
        judge("timeout", is_invalid(timeout.map(|(_, valid)| valid)));
        judge("concurrency", is_invalid(concurrency.map(|(_, valid)| valid)));
        judge("rate_limit.per_second", is_invalid(per_second.map(|(_, valid)| valid)));
        judge("rate_limit.burst", per_second.is_some() && is_invalid(burst.map(|(_, valid)| valid)));
        judge("schedule", steps.is_some_and(|(count, valid)| !valid || (count > 0 && step > DAY)));
        judge("exponential", steps.is_some() && base.is_some());
        if let Some((base, valid)) = base {
            judge("exponential.base", !valid);
            judge("exponential.factor", !(1.0..=10.0).contains(&factor));
            judge("exponential.cap", cap < base || cap > DAY);
        }
        match Policy::try_from(fields) {
            Ok(_) => prop_assert_eq!(invalid, Vec::<&str>::new()),
            Err(error) => prop_assert!(invalid.contains(&error.field), "{error}: {invalid:?}"),
        }
    }
}

#[test]
fn unknown_fields_and_malformed_durations_are_rejected() {
    for json in [
        r#"{"retries":3}"#,
        r#"{"timeout":-1}"#,
        r#"{"timeout":"soon"}"#,
        r#"{"timeout":[]}"#,
        r#"{"method":"DELETE"}"#,
        r#"{"method":"post"}"#,
        r#"{"compression":"br"}"#,
    ] {
        assert!(serde_json::from_str::<PolicyFields>(json).is_err(), "{json}");
    }
}

#[test]
fn an_array_in_place_of_an_object_is_rejected() {
    for json in ["[]", "[3]", r#"{"rate_limit":[50.0,10]}"#, r#"{"exponential":["1s",2.0,"1m"]}"#] {
        let error = serde_json::from_str::<PolicyFields>(json).unwrap_err().to_string();
        assert!(error.starts_with("invalid type: sequence, expected an object"), "{json}: {error}");
    }
}

#[test]
fn the_default_burst_is_a_tenth_of_the_rate_rounded_up() {
    for (per_second, burst) in [("0.5", 1), ("1", 1), ("10", 1), ("10.5", 2), ("50", 5), ("10000", 1000)] {
        let json = format!(r#"{{"rate_limit":{{"per_second":{per_second}}}}}"#);
        let policy = Policy::try_from(serde_json::from_str::<PolicyFields>(&json).unwrap()).unwrap();
        assert_eq!(policy.rate_limit().unwrap().burst.get(), burst, "{per_second} a second");
    }
}

#[test]
fn fields_serialise_as_they_were_given() {
    let json = r#"{"schedule":["1s","1m 30s"],"timeout":"5s","rate_limit":{"per_second":50.0,"burst":10},"method":"PUT","compression":"gzip"}"#;
    let policy = Policy::try_from(serde_json::from_str::<PolicyFields>(json).unwrap()).unwrap();
    assert_eq!(serde_json::to_string(policy.fields()).unwrap(), json);
    assert_eq!(policy.rate_limit().unwrap().interval, Duration::from_millis(20));
}
