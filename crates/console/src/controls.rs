//! The fields of forms that create or change something.

use maud::{Markup, html};
use postrider_api::Problem;

/// A line of text, or a number.
#[derive(Clone, Copy, Default)]
pub(crate) struct Control<'a> {
    /// Its name in the form, and its id.
    pub(crate) name: &'a str,
    pub(crate) label: &'a str,
    /// The present value.
    pub(crate) value: &'a str,
    /// What it means, and its bounds.
    pub(crate) hint: &'a str,
    pub(crate) required: bool,
}

impl Control<'_> {
    /// A field of one line.
    pub(crate) fn line(self) -> Markup {
        html! {
            (self.labelled(&html! {
                input id=(self.name) name=(self.name) value=(self.value) required[self.required] autocomplete="off"
                    spellcheck="false" aria-describedby=[self.described()];
            }))
        }
    }

    /// A field of several lines, for code.
    pub(crate) fn area(self, rows: usize) -> Markup {
        html! {
            (self.labelled(&html! {
                textarea.code id=(self.name) name=(self.name) rows=(rows) required[self.required] spellcheck="false"
                    aria-describedby=[self.described()] { (self.value) }
            }))
        }
    }

    /// A choice between words. The value `""` keeps the default.
    pub(crate) fn choice<'w>(self, words: impl Iterator<Item = (&'w str, &'w str)>) -> Markup {
        html! {
            (self.labelled(&html! {
                select id=(self.name) name=(self.name) aria-describedby=[self.described()] {
                    @for (word, label) in words { option value=(word) selected[word == self.value] { (label) } }
                }
            }))
        }
    }

    fn labelled(&self, control: &Markup) -> Markup {
        html! {
            div.field {
                label for=(self.name) { (self.label) }
                (control)
                @if let Some(id) = self.described() { p.hint id=(id) { (self.hint) } }
            }
        }
    }

    fn described(&self) -> Option<String> {
        (!self.hint.is_empty()).then(|| format!("{}-hint", self.name))
    }
}

/// A box to tick.
pub(crate) fn tick(name: &str, label: &str, on: bool) -> Markup {
    html! {
        div.field.tick {
            input type="checkbox" id=(name) name=(name) value="true" checked[on];
            label for=(name) { (label) }
        }
    }
}

/// Why the API has refused what a form contained; nothing for a form that was not sent yet.
pub(crate) fn refused(problem: Option<&Problem>) -> Markup {
    html! {
        @if let Some(problem) = problem {
            div.error role="alert" {
                p { (problem.detail) }
                @if let Some(scope) = &problem.needs { p { "This session’s key has no scope " code { (scope) } "." } }
                @if !problem.errors.is_empty() {
                    ul { @for error in &problem.errors { li { code { (error.field) } ": " (error.message) } } }
                }
            }
        }
    }
}

/// The values of a field with one value a line, or separated by commas.
pub(crate) fn lines(text: Option<&str>) -> Vec<String> {
    let lines = text.unwrap_or_default().split(['\n', ',']).map(str::trim);
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_separated_by_lines_or_commas() {
        assert_eq!(lines(Some("a.*\r\n b ,c\n\n")), ["a.*", "b", "c"]);
        assert!(lines(None).is_empty());
    }
}
