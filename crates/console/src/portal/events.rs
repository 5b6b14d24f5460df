//! Choosing event types from the catalogue.

use maud::{Markup, html};
use postrider_api::event_type::EventTypeList;

use crate::failure::Failure;
use crate::query::Query;
use crate::visit::Visit;

/// How many types the catalogue shows. Others are entered as text.
const SHOWN: usize = 50;

/// The fields of a form in which somebody chooses event types: a box for each of the catalogue, and a text for patterns.
pub(super) async fn fields(visit: &Visit, chosen: &[String]) -> Result<Markup, Failure> {
    let query = Query::default().with("limit", SHOWN);
    let catalogue: Option<EventTypeList> = visit.get_if_allowed("/v1/event-types", &query).await?;
    let types = catalogue.map(|catalogue| catalogue.data).unwrap_or_default();
    let types: Vec<_> = types.into_iter().filter(|one| !one.deprecated).collect();
    let is_listed = |pattern: &&String| types.iter().any(|one| one.name.as_str() == pattern.as_str());
    let others: Vec<&str> = chosen.iter().filter(|pattern| !is_listed(pattern)).map(String::as_str).collect();
    Ok(html! {
        @if !types.is_empty() {
            fieldset.types {
                legend { "Event types" }
                @for one in &types {
                    label.check {
                        input type="checkbox" name="event" value=(one.name) checked[chosen.iter().any(|pattern| pattern == one.name.as_str())];
                        span { code { (one.name) } @if !one.description.is_empty() { br; small { (one.description) } } }
                    }
                }
            }
        }
        div.field {
            label for="patterns" { @if types.is_empty() { "Event types" } @else { "Other types, or patterns" } }
            input id="patterns" name="patterns" value=(others.join(" ")) maxlength="8000" autocomplete="off" spellcheck="false"
                aria-describedby="about-patterns" placeholder="order.* invoice.paid";
            small id="about-patterns" { "Separated by spaces. " code { "order.*" } " stands for all types that begin with " code { "order." } ", " code { "*" } " for all." }
        }
    })
}

/// What somebody has chosen.
pub(super) fn chosen(fields: &Query) -> Vec<String> {
    let patterns = fields.get("patterns").unwrap_or_default();
    let patterns = patterns.split([' ', ',', '\n', '\r', '\t']).filter(|pattern| !pattern.is_empty());
    let mut chosen: Vec<String> = fields.all("event").map(str::to_owned).collect();
    for pattern in patterns {
        if !chosen.iter().any(|known| known == pattern) {
            chosen.push(pattern.to_owned());
        }
    }
    chosen
}
