//! Formats of subscribers: validated, changed and shown.

use postrider_api::subscriber::{Change, FormatOptionChanges, FormatOptions};
use postrider_core::format::{Format, FormatName};

use crate::problem::Errors;

/// The format of a new subscriber.
pub(super) fn new(name: Option<&str>, options: Option<FormatOptions>, errors: &mut Errors) -> Option<Format> {
    let name = name.map_or(Some(FormatName::Postrider), |name| errors.check("format", name.parse()));
    made(name?, options.unwrap_or_default().template, errors)
}

/// The format after a change; `None` if it stays.
pub(super) fn changed(
    present: &Format,
    name: Change<String>,
    options: Change<FormatOptionChanges>,
    errors: &mut Errors,
) -> Option<Format> {
    if matches!((&name, &options), (Change::Keep, Change::Keep)) {
        return None;
    }
    let name = match name {
        Change::Keep => present.name(),
        Change::Reset => FormatName::Postrider,
        Change::Set(name) => errors.check("format", name.parse())?,
    };
    let present = self::options(present).template.filter(|_| name == FormatName::Slack);
    let template = match options {
        Change::Keep => present,
        Change::Reset => None,
        Change::Set(FormatOptionChanges { template }) => match template {
            Change::Keep => present,
            Change::Reset => None,
            Change::Set(template) => Some(template),
        },
    };
    made(name, template, errors)
}

/// The options of a format, as the API shows them.
pub(super) fn options(format: &Format) -> FormatOptions {
    match format {
        Format::Slack { template } => FormatOptions { template: Some(template.as_str().to_owned()) },
        _ => FormatOptions::default(),
    }
}

fn made(name: FormatName, template: Option<String>, errors: &mut Errors) -> Option<Format> {
    const TEMPLATE: &str = "format_options.template";
    if name == FormatName::Slack {
        let template = errors.require(TEMPLATE, template)?;
        return Some(Format::Slack { template: errors.check(TEMPLATE, template.parse())? });
    }
    if template.is_some() {
        errors.add(TEMPLATE, &format!("the format `{name}` has no template"));
        return None;
    }
    Some(match name {
        FormatName::Postrider | FormatName::Slack => Format::Postrider,
        FormatName::Standard => Format::Standard,
        FormatName::Data => Format::Data,
        FormatName::CloudEvents => Format::CloudEvents,
        FormatName::CloudEventsBinary => Format::CloudEventsBinary,
        FormatName::Form => Format::Form,
    })
}
