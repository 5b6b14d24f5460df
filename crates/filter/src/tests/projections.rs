//! What projections give.

use postrider_core::Expression;

use super::{ORDER, subject};
use crate::{Failed, Projected, Projection};

fn project(text: &str) -> Result<Projected, Failed> {
    let expression: Expression = text.parse().unwrap();
    let projection = Projection::compile(&expression).unwrap_or_else(|error| panic!("{text}: {error}"));
    projection.project(&subject(ORDER), 2_000)
}

#[test]
fn a_projection_gives_data_and_headers() {
    let text = "{'data': {'sum': data.total, 'skus': data.items.map(i, {'sku': i.sku}), 'who': data.customer}, \
        'headers': {'X-Country': data.customer.country, 'A': event.event_type}}";
    let projected = project(text).unwrap();
    assert_eq!(
        projected.data,
        r#"{"skus":[{"sku":"a"},{"sku":"b"}],"sum":250,"who":{"country":"DE","tags":["new","vip"]}}"#
    );
    let headers = [("A", "order.paid"), ("X-Country", "DE")];
    assert_eq!(projected.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn values_keep_their_type() {
    let projected =
        project("{'data': [data.id, data.price, data.paid, data.note, data.name, 2.0, '\"\\n']}").unwrap();
    assert_eq!(projected.data, r#"[18446744073709551615,9.5,true,null,"Ärger",2.0,"\"\n"]"#);
}

#[test]
fn the_same_event_gives_the_same_bytes() {
    let text = "{'data': {'f': 1, 'e': 2, 'd': 3, 'c': 4, 'b': 5, 'a': 6}}";
    for _ in 0..20 {
        assert_eq!(project(text).unwrap().data, r#"{"a":6,"b":5,"c":4,"d":3,"e":2,"f":1}"#);
    }
}

#[test]
fn what_is_no_result_fails() {
    for (text, message) in [
        ("{'payload': 1}", "the projection gave no map with `data` in it"),
        ("{'headers': {}}", "the projection gave no map with `data` in it"),
        ("{1: 2}", "the projection gave no map with `data` in it"),
        ("data.customer", "the projection gave no map with `data` in it"),
        ("{'data': {1: 2}}", "the projection gave a value that JSON lacks"),
        ("{'data': b'x'}", "the projection gave a value that JSON lacks"),
        ("{'data': 1.0 / 0.0}", "the projection gave a value that JSON lacks"),
        ("{'data': 1, 'headers': {'a': 1}}", "a header of the projection is not text"),
        (
            "{'data': [data, data, data, data, data, data, data, data, data]}",
            "the projection gave more than 2000 bytes",
        ),
        ("{'data': data.missing}", "the event has no `missing`; ask with has() before"),
    ] {
        assert_eq!(project(text).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn what_cannot_be_a_projection_is_rejected() {
    for text in ["1", "[data]", "true", "data.total > 1", "'x'"] {
        let rejected = Projection::compile(&text.parse().unwrap()).unwrap_err();
        assert!(rejected.to_string().contains("a projection must give a map"), "{text}: {rejected}");
    }
}
