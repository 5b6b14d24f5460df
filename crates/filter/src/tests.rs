//! What expressions give, what is rejected, and what the bounds hold.

mod bounds;
mod projections;

use postrider_core::Expression;

use crate::{Facts, Failed, Filter, Reason, Rejected, Subject};

const FACTS: Facts<'static> = Facts {
    id: "evt_01h455vb4pex5vsknk084sn02q",
    event_type: "order.paid",
    agent_id: "shop",
    timestamp: 1_700_000_000,
    channels: &["eu", "vip"],
};

const ORDER: &str = r#"{
    "id": 18446744073709551615, "total": 250, "price": 9.5, "paid": true, "note": null, "name": "Ärger",
    "limit": 100, "customer": {"country": "DE", "tags": ["new", "vip"]},
    "items": [{"sku": "a", "n": 1, "price": 50}, {"sku": "b", "n": 3, "price": 150, "gift": true}]
}"#;

fn subject(data: &str) -> Subject {
    Subject::new(&FACTS, data).unwrap()
}

fn compile(text: &str) -> Result<Filter, Rejected> {
    Filter::compile(&text.parse::<Expression>().unwrap())
}

fn matches(text: &str) -> Result<bool, Failed> {
    compile(text).unwrap_or_else(|error| panic!("{text}: {error}")).matches(&subject(ORDER))
}

fn rejected(text: &str) -> Rejected {
    match compile(text) {
        Ok(_) => panic!("{text} was accepted"),
        Err(rejected) => rejected,
    }
}

#[test]
fn filters_see_the_event_and_its_data() {
    for text in [
        "true",
        "data.total > 100",
        "data.total > 100.5 && data.price < 10",
        "data.total == 250.0",
        "data.id > 9223372036854775807u",
        "data.paid",
        "!(data.paid == false)",
        "data.note == null",
        "data['total'] == 250",
        "data.customer.country in ['DE', 'AT']",
        "'vip' in data.customer.tags",
        "'country' in data.customer",
        "data.customer.tags == ['new', 'vip']",
        "['new', 'vip'] == data.customer.tags",
        "['new'] + ['vip'] == data.customer.tags",
        "data.customer.tags + ['x'] == ['new', 'vip', 'x']",
        "data.customer == {'tags': ['new', 'vip'], 'country': 'DE'}",
        "{'tags': ['new', 'vip'], 'country': 'DE'} == data.customer",
        "data.customer != {'country': 'DE'}",
        "[data.customer] == [{'tags': data.customer.tags, 'country': 'DE'}]",
        "data.items.filter(i, i.n > 2) == [data.items[1]]",
        "data.items[1].sku == 'b'",
        "size(data.items) == 2 && data.name.size() == 5",
        "data.name.startsWith('Är') && data.name.endsWith('ger') && data.name.contains('rg')",
        "data.name.matches('^Ä[a-z]+$') && matches(event.event_type, 'order')",
        "event.event_type == 'order.paid' && event.agent_id == 'shop' && event.timestamp == 1700000000",
        "event.id.startsWith('evt_') && 'vip' in event.channels && size(event.channels) == 2",
        "data.items.exists(i, i.price > data.limit)",
        "data.items.all(i, i.n >= 1)",
        "data.items.exists_one(i, has(i.gift) && i.gift)",
        "data.items.exists(i, i.sku in ['b', 'c'])",
        "data.items.exists(i, i.price * i.n == 450)",
        "data.items.map(i, i.n) == [1, 3]",
        "data.items.filter(i, i.n > 1).exists(i, i.sku == 'b')",
        "size(data.items.map(i, i.n > 1, i.sku)) == 1",
        "data.customer.exists(key, key == 'tags')",
        "type(data.total) == int && type(data.name) == string && type(data.items) == list",
        "int('5') == 5 && string(data.total) == '250' && double(data.total) == 250.0",
        "data.total > 300 ? data.paid : data.note == null",
        "data.items.exists(i, i.sku.matches('^b') && i.sku.matches('b$'))",
    ] {
        assert_eq!(matches(text), Ok(true), "{text}");
    }
}

#[test]
fn what_is_absent_is_false_behind_has() {
    for (text, expected) in [
        ("has(data.total)", true),
        ("has(data.missing)", false),
        ("has(data.missing.deep.er)", false),
        ("has(data.customer.country)", true),
        ("has(data.customer.city)", false),
        ("has(data.note.x)", false),
        ("has(data.total.x)", false),
        ("has(data.items[0].gift)", false),
        ("has(data.items[1].gift)", true),
        ("has(data.items[9].gift)", false),
        ("has(data['missing'].x)", false),
        ("data.items.exists(i, has(i.box.size))", false),
        ("has(data.customer.city) && data.customer.city == 'Wien'", false),
    ] {
        assert_eq!(matches(text), Ok(expected), "{text}");
    }
}

#[test]
fn errors_say_what_is_wrong_and_show_nothing_of_the_event() {
    for (text, message) in [
        ("data.missing > 1", "the event has no `missing`; ask with has() before"),
        ("data.name > 1", "`_>_` does not apply to string and int"),
        ("data.name + 1 == 'x'", "`add` does not apply to these types"),
        (
            "1 / (data.total - 250) == 1",
            "a calculation failed: an overflow, a division by zero, or an index past the end of a list",
        ),
        (
            "data.items[7].n == 1",
            "a calculation failed: an overflow, a division by zero, or an index past the end of a list",
        ),
        ("data.total", "the filter gave neither true nor false"),
        (
            "data.items.exists(i, i.sku == data.customer)",
            "what a loop compares with must be a number, a boolean or a text of at most 256 bytes",
        ),
        ("int(data.name) == 1", "`int` failed for this value"),
    ] {
        assert_eq!(matches(text).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn what_is_no_filter_is_rejected_with_its_position() {
    for (text, message) in [
        ("1 + 1", "line 1, column 3: a filter must give true or false"),
        ("data", "line 1, column 1: a filter must give true or false"),
        ("event.agent_id", "line 1, column 6: a filter must give true or false"),
        ("'x'", "line 1, column 1: a filter must give true or false"),
        ("data.items.map(i, i.n)", "line 1, column 15: a filter must give true or false"),
        ("true ? 1 : 2", "line 1, column 6: a filter must give true or false"),
        ("size(data)", "line 1, column 5: a filter must give true or false"),
        (
            "order.total > 1",
            "line 1, column 1: there is no `order`: use `event`, `data`, or the variable of a loop",
        ),
        (
            "data.total >\n  other",
            "line 2, column 3: there is no `other`: use `event`, `data`, or the variable of a loop",
        ),
        (
            "data.name.reverse() == 'x'",
            "line 1, column 18: there is no function `reverse` with these arguments",
        ),
        ("now() > 1", "line 1, column 4: there is no function `now` with these arguments"),
        (
            "contains(data.name, 'x')",
            "line 1, column 9: there is no function `contains` with these arguments",
        ),
        (
            "data.name.matches(data.pattern)",
            "line 1, column 23: the pattern of `matches` must be a literal text",
        ),
        (
            "data.items.exists(i, i.tags.exists(t, t == 'x'))",
            "line 1, column 35: a loop must not be inside another one",
        ),
        (
            "data.items.exists(i, [i.sku] == ['a'])",
            "line 1, column 22: a loop must not build lists, maps or texts",
        ),
        (
            "data.items.exists(i, i.sku + 'x' == 'ax')",
            "line 1, column 28: a loop must not build lists, maps or texts",
        ),
        (
            "data.items.exists(i, i.sku in data.skus)",
            "line 1, column 28: inside a loop, `in` takes only a list of literals",
        ),
        (
            "{'a': 1}.exists(k, k == 'a')",
            "line 1, column 16: a loop must not go over a map that the expression makes, since such a map has no order",
        ),
        (
            "[{'a': 1}][0].exists(k, k == 'a')",
            "line 1, column 21: a loop must not go over a map that the expression makes, since such a map has no order",
        ),
        ("data.items.exists(data, true)", "line 1, column 18: a loop's variable must not be called `data`"),
        ("Message{a: 1} == data", "line 1, column 8: messages are not supported"),
    ] {
        assert_eq!(rejected(text).to_string(), message, "{text}");
    }
}

#[test]
fn what_is_not_cel_is_rejected_with_its_position() {
    for text in [
        "data.total >",
        "data.total > 100)",
        "(((",
        "data.?x",
        "a b",
        "\"open",
        "@result",
        "data.`x`",
        "1 = 1",
        "🦀",
    ] {
        let rejected = rejected(text);
        assert!(matches!(rejected.reason, Reason::Syntax(_)), "{text}: {rejected}");
        assert!(rejected.to_string().starts_with("line 1, column "), "{text}: {rejected}");
        assert!(!rejected.to_string().contains('\n'), "{text}: {rejected}");
    }
}

#[test]
fn of_duplicate_keys_the_last_counts() {
    let filter = compile("data.a == 2 && size(data) == 1").unwrap();
    assert_eq!(filter.matches(&subject(r#"{"a": 1, "a": 2}"#)), Ok(true));
}

#[test]
fn data_that_is_not_unicode_cannot_be_read() {
    assert!(Subject::new(&FACTS, r#"{"a": "\ud800"}"#).is_err());
    assert!(Subject::new(&FACTS, "{").is_err());
}
