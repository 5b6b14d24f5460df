//! What filters and transforms cost: `cargo bench -p postrider-shape`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a tool for the person who runs it")]

use std::fmt::Write as _;

use bytes::Bytes;
use divan::{Bencher, black_box};
use postrider_core::format::Format;
use postrider_core::{Expression, Transform};
use postrider_filter::{Facts, Filter, Subject};
use postrider_shape::{Event, Shaper, Wanted};
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

const FACTS: Facts<'static> = Facts {
    id: "evt_01h455vb4pex5vsknk084sn02q",
    event_type: "order.paid",
    agent_id: "shop",
    timestamp: 1_700_000_000,
    channels: &[],
};

/// An order of about this many bytes.
fn order(bytes: usize) -> String {
    let mut text = String::from(
        r#"{"total":250.5,"customer":{"country":"DE","name":"Ann"},"card":{"number":"4111111111111111"},"items":["#,
    );
    let mut place = 0;
    while text.len() + 60 < bytes {
        let comma = if place == 0 { "" } else { "," };
        let _ = write!(text, r#"{comma}{{"sku":"item-{place:04}","n":{place},"price":9.50}}"#);
        place += 1;
    }
    text + "]}"
}

/// The filters of a thousand subscribers.
fn filters() -> Vec<Filter> {
    let text = |number: usize| match number % 4 {
        0 => format!("data.total > {number}"),
        1 => format!("has(data.customer.country) && data.customer.country == 'D{number}'"),
        2 => format!("event.agent_id == 'shop' && data.total < {number}.5"),
        _ => format!("data.customer.name.startsWith('A') || data.total == {number}"),
    };
    (0..1000).map(|number| Filter::compile(&text(number).parse::<Expression>().unwrap()).unwrap()).collect()
}

/// A 1 KB event, parsed once, for 1,000 subscribers with a filter each: less than 2 ms is the goal.
#[divan::bench]
fn thousand_filters_of_1_kb(bencher: Bencher<'_, '_>) {
    let (data, filters) = (order(1_000), filters());
    bencher.bench(|| {
        let subject = Subject::new(&FACTS, black_box(&data)).unwrap();
        filters.iter().filter(|filter| filter.matches(&subject) == Ok(true)).count()
    });
}

#[divan::bench]
fn compile_a_filter(bencher: Bencher<'_, '_>) {
    let text: Expression =
        "has(data.customer.country) && data.customer.country == 'DE' && data.total > 5".parse().unwrap();
    bencher.bench(|| Filter::compile(black_box(&text)).is_ok());
}

fn shape(bencher: Bencher<'_, '_>, transform: Option<&str>) {
    let data = order(10_000);
    let envelope =
        format!(r#"{{"event":"order.paid","timestamp":1700000000,"agent_id":"shop","data":{data}}}"#);
    let envelope = Bytes::from(envelope);
    let transform: Option<Transform> = transform.map(|transform| serde_json::from_str(transform).unwrap());
    let event = Event { id: FACTS.id.parse().unwrap(), channels: None };
    let (shaper, runtime) = (Shaper::default(), Runtime::new().unwrap());
    let wanted = Wanted { format: &Format::Data, transform: transform.as_ref(), plugin: None };
    bencher.bench(|| runtime.block_on(shaper.shape(&event, black_box(&envelope).clone(), &wanted)).unwrap());
}

/// The format alone, to compare with.
#[divan::bench]
fn no_transform_of_10_kb(bencher: Bencher<'_, '_>) {
    shape(bencher, None);
}

/// Less than 1 ms is the goal.
#[divan::bench]
fn steps_of_10_kb(bencher: Bencher<'_, '_>) {
    let steps = r#"{"steps": [{"op": "drop", "path": "/customer/name"}, {"op": "mask", "path": "/card/number", "keep": 4}, {"op": "set", "path": "/items/7/gift", "value": true}]}"#;
    shape(bencher, Some(steps));
}

/// Less than 1 ms is the goal.
#[divan::bench]
fn projection_of_10_kb(bencher: Bencher<'_, '_>) {
    let project = r#"{"project": "{'data': {'sum': data.total, 'items': data.items.map(i, {'sku': i.sku, 'n': i.n})}}"}"#;
    shape(bencher, Some(project));
}
