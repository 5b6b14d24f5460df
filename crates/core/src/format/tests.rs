use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{AgentId, Envelope, EventData, Timestamp};

fn envelope(agent: &str, data: &str) -> Vec<u8> {
    let (event_type, agent): (_, AgentId) = ("order.paid".parse().unwrap(), agent.parse().unwrap());
    let data = EventData::from_json(data).unwrap();
    let timestamp = Timestamp::from_seconds(1_700_000_000);
    Envelope { event_type: &event_type, timestamp, agent_id: &agent, data: &data }.to_bytes()
}

fn id() -> EventId {
    "evt_01h455vb4pex5vsknk084sn02q".parse().unwrap()
}

fn render(format: &Format, agent: &str, data: &str) -> Rendered {
    format.render(id(), &envelope(agent, data)).unwrap()
}

fn text(rendered: &Rendered) -> &str {
    std::str::from_utf8(&rendered.body).unwrap()
}

const DATA: &str = r#"{"total": 1e400, "a":1, "a":2}"#;

#[test]
fn the_data_is_never_written_again() {
    for format in
        [Format::Postrider, Format::Standard, Format::Data, Format::CloudEvents, Format::CloudEventsBinary]
    {
        let rendered = render(&format, "shop", DATA);
        assert!(text(&rendered).contains(DATA), "{format:?}");
    }
    assert_eq!(render(&Format::Postrider, "shop", DATA).body, envelope("shop", DATA));
    assert_eq!(text(&render(&Format::Data, "shop", DATA)), DATA);
}

#[test]
fn a_cloud_event_has_its_attributes_in_the_body_or_in_headers() {
    let structured = render(&Format::CloudEvents, r#"the "shop" 100%"#, r#"{"a":1}"#);
    assert_eq!(structured.content_type, "application/cloudevents+json");
    let value: Value = serde_json::from_slice(&structured.body).unwrap();
    let expected = json!({
        "specversion": "1.0", "id": id(), "source": "/agents/the%20%22shop%22%20100%25", "type": "order.paid",
        "time": "2023-11-14T22:13:20Z", "datacontenttype": "application/json", "data": {"a": 1},
    });
    assert_eq!(value, expected);
    let binary = render(&Format::CloudEventsBinary, r#"the "shop" 100%"#, r#"{"a":1}"#);
    assert_eq!((binary.content_type, text(&binary)), ("application/json", r#"{"a":1}"#));
    let expected = [
        ("ce-specversion", "1.0"),
        ("ce-id", "evt_01h455vb4pex5vsknk084sn02q"),
        ("ce-source", "/agents/the%2520%2522shop%2522%2520100%2525"),
        ("ce-type", "order.paid"),
        ("ce-time", "2023-11-14T22:13:20Z"),
    ];
    assert_eq!(binary.headers, expected.map(|(name, value)| (name, value.to_owned())));
}

#[test]
fn a_form_has_scalars_as_text_and_the_rest_as_json() {
    let data = r#"{"id": "a b&c", "total": 1.50, "paid": true, "none": null, "items": [1, {"x": 2}], "id": "\u00e9"}"#;
    let form = render(&Format::Form, "shop", data);
    assert_eq!(form.content_type, "application/x-www-form-urlencoded");
    let expected = "id=a+b%26c&total=1.50&paid=true&none=&items=%5B1%2C+%7B%22x%22%3A+2%7D%5D&id=%C3%A9";
    assert_eq!(text(&form), expected);
    assert_eq!(text(&render(&Format::Form, "shop", r#"["a", 2]"#)), "0=a&1=2");
}

#[test]
fn a_slack_message_is_made_from_a_template() {
    let slack = |template: &str, data: &str| {
        let rendered = render(&Format::Slack { template: template.parse().unwrap() }, "shop", data);
        let value: Value = serde_json::from_slice(&rendered.body).unwrap();
        value["text"].as_str().unwrap().to_owned()
    };
    let data = r#"{"order": {"id": "<4 & 5>"}, "items": [1.50, "b"], "none": null}"#;
    for (template, expected) in [
        ("Order {{data.order.id}} is <b>paid</b>", "Order &lt;4 &amp; 5&gt; is <b>paid</b>"),
        (
            "{{ event }} by {{agent_id}} at {{timestamp}}: {{id}}",
            "order.paid by shop at 1700000000: evt_01h455vb4pex5vsknk084sn02q",
        ),
        ("{{data.items.0}}{{data.items.1}}{{data.items.2}}{{data.none}}{{data.x.y}}", "1.50b"),
        ("{{data.items}}", r#"[1.50, "b"]"#),
        ("no place, only } and {", "no place, only } and {"),
    ] {
        assert_eq!(slack(template, data), expected, "{template}");
    }
    let long = slack(&"{{data.a}}".repeat(40), &json!({"a": "x".repeat(10_000)}).to_string());
    assert_eq!(long.len(), Template::MAX_RENDERED);
}

#[test]
fn a_wrong_template_is_explained() {
    for (template, expected) in [
        ("", "must have 1 to 4000 characters"),
        ("a {{data.x", "`{{` at character 3 has no `}}`"),
        ("{{order}}", "`{{order}}` is none of `event`, `id`, `agent_id`, `timestamp`, `data` and `data.…`"),
        ("{{event.x}}", "`{{event.x}}` is none of"),
        ("{{data..x}}", "`{{data..x}}` is none of"),
    ] {
        let error = template.parse::<Template>().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{template}: {error}");
    }
    assert_eq!("{{id}}".repeat(51).parse::<Template>(), Err(TemplateError::TooMany));
    assert_eq!(format!("{{{{data{}}}}}", ".a".repeat(11)).parse::<Template>(), Err(TemplateError::TooMany));
}

#[test]
fn a_format_is_stored_and_read() {
    let slack = Format::Slack { template: "{{event}}".parse().unwrap() };
    assert_eq!(serde_json::to_string(&slack).unwrap(), r#"{"format":"slack","template":"{{event}}"}"#);
    for format in [Format::CloudEvents, Format::CloudEventsBinary, Format::Form, slack] {
        let stored = serde_json::to_string(&format).unwrap();
        assert_eq!(serde_json::from_str::<Format>(&stored).unwrap(), format);
        assert!(stored.contains(&format!(r#""{}""#, format.name())), "{stored}");
    }
    assert!(serde_json::from_str::<Format>(r#"{"format":"xml"}"#).is_err());
}

proptest! {
    #[test]
    fn every_format_of_every_event_is_well_formed(
        agent in "[!-~]([ -~]{0,20}[!-~])?", name in "\\PC{0,8}", value in "\\PC{0,20}",
    ) {
        let data = json!({ name.as_str(): value, "n": [1, null, {"x": value}] }).to_string();
        let template: Template = "{{event}} {{data.n}} {{agent_id}}".parse().unwrap();
        for format in [
            Format::Standard, Format::Data, Format::CloudEvents, Format::CloudEventsBinary,
            Format::Slack { template }, Format::Form,
        ] {
            let rendered = render(&format, &agent, &data);
            if rendered.content_type.ends_with("json") {
                prop_assert!(serde_json::from_slice::<Value>(&rendered.body).is_ok(), "{:?}", format);
            } else {
                let fields: Vec<_> = url::form_urlencoded::parse(&rendered.body).collect();
                prop_assert!(fields.contains(&(name.as_str().into(), value.as_str().into())));
            }
            for (_, value) in rendered.headers {
                prop_assert!(value.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }

    #[test]
    fn no_bytes_make_rendering_panic(envelope in "\\PC{0,60}", template in "\\PC{0,30}") {
        let template = template.parse().unwrap_or_else(|_| "x".parse().unwrap());
        for format in [Format::Standard, Format::Slack { template }, Format::Form] {
            drop(format.render(id(), envelope.as_bytes()));
        }
    }
}
