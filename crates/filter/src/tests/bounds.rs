//! Hostile expressions and data stay within their bounds.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{FACTS, compile, rejected, subject};
use crate::{Reason, Subject};

/// Runs on a stack as small as that of an async runtime's threads.
fn on_a_small_stack<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(run);
    thread.unwrap().join().unwrap()
}

#[test]
fn the_number_of_nodes_and_levels_is_bounded() {
    let sum = |terms: usize| vec!["data.a"; terms].join(" || ");
    assert!(compile(&sum(60)).is_ok());
    assert_eq!(rejected(&sum(100)).reason, Reason::TooLarge);
    let deep = |levels: usize| format!("{}data.a{}", "!(".repeat(levels), ")".repeat(levels));
    assert!(compile(&deep(20)).is_ok());
    assert_eq!(rejected(&deep(28)).reason, Reason::TooDeep);
    assert_eq!(rejected(&format!("data{}", ".a".repeat(30))).reason, Reason::TooDeep);
}

#[test]
fn hostile_texts_are_rejected_soon_and_without_a_deep_stack() {
    on_a_small_stack(|| {
        let hostile = [
            "(".repeat(4096),
            "[".repeat(4096),
            "{".repeat(4096),
            "!".repeat(4096),
            "-".repeat(4096),
            "data".to_owned() + &".a".repeat(2046),
            "a?".repeat(2048),
            "1+".repeat(2047) + "1",
            "true||".repeat(600) + "true",
            "true?true:".repeat(400) + "true",
            "a[".repeat(2000),
            "f(".repeat(2000),
            "\"".repeat(4095),
            "'\\".repeat(2000),
            "data.a.exists(x,".repeat(250),
            "{1:".repeat(1300),
            "x{a:".repeat(1000),
            "has(".repeat(1000),
            "((((((((((((((((((((((((((((((true))))))))))))))))))))))))))))))".repeat(60),
            "0x".repeat(2000),
            "9".repeat(4096),
            "b'\\xff".repeat(500),
            "/*".repeat(2000),
            "data.a in ".repeat(400) + "data.a",
            "a.b.c(".repeat(600),
            "?:".repeat(2000),
            "data.a ".repeat(500),
            ", ".repeat(2000),
        ];
        for text in hostile {
            let began = Instant::now();
            rejected(&text);
            // A sanity bound, far from what it takes: the parser must not be exponential.
            assert!(began.elapsed() < Duration::from_secs(10), "{}…", &text[..20]);
        }
    });
}

#[test]
fn hostile_patterns_are_refused_or_linear() {
    for pattern in [
        "(a{1000}){1000}",
        "a{100000}",
        &format!("{}a{}", "(".repeat(100), ")".repeat(100)),
        "(",
        "\\\\p{Nonsense}",
    ] {
        let rejected = rejected(&format!("data.a.matches('{pattern}')"));
        assert!(matches!(rejected.reason, Reason::Pattern(_)), "{pattern}: {rejected}");
    }
    let catastrophic = compile("data.a.matches('^(a+)+$')").unwrap();
    let text = format!(r#"{{"a": "{}!"}}"#, "a".repeat(200_000));
    assert_eq!(catastrophic.matches(&subject(&text)), Ok(false));
}

#[test]
fn deep_and_large_data_is_read() {
    on_a_small_stack(|| {
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        let filter = compile("data == data && size(data) == 1").unwrap();
        assert_eq!(filter.matches(&subject(&deep)), Ok(true));
        assert!(Subject::new(&FACTS, &"[".repeat(100_000)).is_err());
    });
    let huge = r#"{"n": 1e308, "m": -1e308, "big": 123456789012345678901234567890}"#;
    let filter = compile("data.n > 0.0 && data.m < 0.0 && data.big > 1.0e29").unwrap();
    assert_eq!(filter.matches(&subject(huge)), Ok(true));
}

#[test]
fn the_steps_of_all_filters_of_an_event_are_bounded() {
    let data = format!(r#"{{"list": [{}], "n": 1}}"#, vec!["1"; 500_000].join(","));
    let simple = compile("data.n == 1").unwrap();
    for text in
        ["data.list.all(x, x == 1)", "data.list.map(x, x) == [1]", "data.list.filter(x, x == 2) == [1]"]
    {
        let subject = subject(&data);
        assert_eq!(simple.matches(&subject), Ok(true));
        assert_eq!(compile(text).unwrap().matches(&subject), Err(crate::Failed::TooMuch), "{text}");
        assert_eq!(simple.matches(&subject), Err(crate::Failed::TooMuch), "nothing is left");
    }
    let subject = subject(&data);
    for (text, times) in [("data.list == data.list", 2), ("!(2 in data.list)", 1)] {
        for _ in 0..times {
            assert_eq!(compile(text).unwrap().matches(&subject), Ok(true), "{text}");
        }
    }
    // Three times half a million and a few: less than that is left.
    assert_eq!(compile("data.list == data.list").unwrap().matches(&subject), Err(crate::Failed::TooMuch));
}

/// How long an evaluation takes: the least of several times.
fn cost(filter: &crate::Filter, subject: &impl Fn() -> Subject) -> Duration {
    let once = || {
        let subject = subject();
        let began = Instant::now();
        let _ = filter.matches(&subject);
        began.elapsed()
    };
    (0..7).map(|_| once()).min().unwrap_or_default()
}

#[test]
fn loops_take_time_in_proportion_to_the_event() {
    let data = |elements: usize| {
        let mut text = String::from(r#"{"limit": 1, "list": ["#);
        for place in 0..elements {
            let comma = if place == 0 { "" } else { "," };
            let _ = write!(text, r#"{comma}{{"n": {place}, "s": "element {place}"}}"#);
        }
        text.push_str(r#"], "text": ""#);
        text.push_str(&"x".repeat(elements * 20));
        text.push_str(r#""}"#);
        subject(&text)
    };
    let (small, large) = (|| data(500), || data(8_000));
    for text in [
        "data.list.all(x, x.n >= 0 && x.s != data.text && x.n > data.limit - 5)",
        "data.list.exists(x, x == data)",
        "data.list.exists(x, x.n == data.list)",
        "data.list.exists(x, x.s == data.text)",
        "data.list.exists(x, x.n < data.text)",
        "data.list.exists(x, size(data.list) < x.n - 100000)",
        "data.list.exists(x, data.text.contains(x.s))",
        "data.list.filter(x, x.n > 3).map(x, x.s).exists(x, x == 'no')",
        "data.list.exists_one(x, x.s.matches('element 7$'))",
    ] {
        let filter = compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let growth = cost(&filter, &large).as_secs_f64() / cost(&filter, &small).as_secs_f64().max(2e-6);
        // 16 times the data: 16 if linear, 256 if quadratic.
        assert!(growth < 80.0, "{text}: {growth:.0} times for 16 times the data");
    }
}

/// Expressions from a small grammar, most of which are accepted.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("data.a".to_owned()),
        Just("data.list".to_owned()),
        Just("data.missing.x".to_owned()),
        Just("event.event_type".to_owned()),
        Just("x".to_owned()),
        Just("x.n".to_owned()),
        Just("1".to_owned()),
        Just("1.5".to_owned()),
        Just("'text'".to_owned()),
        Just("null".to_owned()),
        Just("true".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            (two, "(==|!=|<|>=|&&|\\|\\||\\+|-|\\*|/|%|in)")
                .prop_map(|((a, b), op)| format!("({a} {op} {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            inner.clone().prop_map(|a| format!("-({a})")),
            inner.clone().prop_map(|a| format!("[{a}]")),
            inner.clone().prop_map(|a| format!("{{'k': {a}}}")),
            inner.clone().prop_map(|a| format!("size({a})")),
            inner.clone().prop_map(|a| format!("string({a})")),
            inner.clone().prop_map(|a| format!("{a}.contains('t')")),
            inner.clone().prop_map(|a| format!("has({a}.y)")),
            inner.clone().prop_map(|a| format!("({a})[0]")),
            (inner.clone(), inner.clone(), "(exists|all|exists_one|filter|map)")
                .prop_map(|(a, b, name)| format!("{a}.{name}(x, {b})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

proptest! {
    #[test]
    fn no_expression_panics_or_takes_long(text in expressions()) {
        let Ok(expression) = text.parse() else { return Ok(()) };
        let list: Vec<String> = (0..300).map(|n| format!(r#"{{"n": {n}, "y": "t{n}"}}"#)).collect();
        let subject = subject(&format!(r#"{{"a": {{"y": 1}}, "list": [{}]}}"#, list.join(",")));
        let began = Instant::now();
        if let Ok(filter) = crate::Filter::compile(&expression) {
            prop_assert!(filter.matches(&subject) != Err(crate::Failed::Internal), "{}", text);
        }
        if let Ok(projection) = crate::Projection::compile(&expression) {
            prop_assert!(projection.project(&subject, 100_000) != Err(crate::Failed::Internal), "{}", text);
        }
        prop_assert!(began.elapsed() < Duration::from_secs(5), "{}", text);
    }

    #[test]
    fn no_text_panics(text in "[a-z.()\\[\\]{}'\"0-9+*/<>=!&|?:, \\\\-]{1,60}") {
        let _ = compile(&text);
    }
}
