//! The settings of the server, to read.

use axum::routing::get;
use http::StatusCode;
use maud::{Markup, html};
use postrider_core::ShownSetting;
use postrider_core::key::Scope;

use super::Screen;
use crate::failure::{Failure, problem};
use crate::layout::Section;
use crate::parts;
use crate::query::Query;
use crate::visit::{Page, Visit};

const PATH: &str = "settings";

pub(super) fn routes(router: Screen) -> Screen {
    router.route("/console/settings", get(list))
}

async fn list(visit: Visit) -> Result<Page, Failure> {
    // They concern all tenants, so only operators see them.
    if !visit.may(Scope::TenantsManage) {
        let mut refusal = problem(StatusCode::FORBIDDEN, "only an operator’s key shows the settings");
        refusal.needs = Some(Scope::TenantsManage.as_str().into());
        return Err(Failure::new(&visit, refusal));
    }
    let only_given = visit.query.get("given") == Some("true");
    let settings = visit.api.settings();
    let shown: Vec<&ShownSetting> = settings.iter().filter(|setting| setting.given || !only_given).collect();
    let main = html! {
        (parts::head(&html! { "Settings" }, &html! {}))
        p.lead {
            "The settings with which this server was started, from its flags, its environment and its file. Secrets are masked. \
             To change one, change it there and restart the server."
        }
        nav.tabs aria-label="Which" {
            a href=(visit.link(PATH)) aria-current=[(!only_given).then_some("true")] { "All" }
            a href=(visit.link_with(PATH, &Query::default().with("given", "true"))) aria-current=[only_given.then_some("true")] {
                "Changed from the default"
            }
        }
        @if shown.is_empty() {
            (parts::empty("No setting is changed", "Every setting has its default.", None))
        } @else { (rows(&shown, only_given)) }
    };
    Ok(visit.page("Settings", Section::Settings, main))
}

fn rows(settings: &[&ShownSetting], only_given: bool) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Settings" {
            table {
                caption.unseen { "Settings" }
                thead { tr { th scope="col" { "Setting" } th scope="col" { "Value" } th scope="col" { "What it is for" } } }
                tbody {
                    @for setting in settings {
                        tr {
                            th scope="row" { code { (setting.name) } }
                            td.value { (value(setting, only_given)) }
                            td.wide { (setting.help) }
                        }
                    }
                }
            }
        }
    }
}

fn value(setting: &ShownSetting, only_given: bool) -> Markup {
    html! {
        @if setting.masked { span.quiet { "***" } }
        @else if let Some(value) = &setting.value { code { (value) } }
        @else { (parts::none()) }
        @if setting.given && !only_given { " " (parts::badge("•", "wait", "set")) }
    }
}
