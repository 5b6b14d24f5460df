//! Tables of lists.

use maud::{Markup, html};

/// A column: its name, empty for actions, and a class for its cells.
pub(crate) type Column = (&'static str, &'static str);

/// A table with rows that the keys `j` and `k` choose and Enter opens: the first link of a row.
pub(crate) fn table(caption: &str, columns: &[Column], rows: impl Iterator<Item = Row>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table.rows {
                caption.unseen { (caption) }
                thead { tr { @for (name, class) in columns { th scope="col" class=[some(class)] { @if name.is_empty() { span.unseen { "Actions" } } @else { (name) } } } } }
                tbody {
                    @for row in rows {
                        tr data-row data-id=[row.id.as_deref()] {
                            @for (cell, (_, class)) in row.cells.iter().zip(columns) { td class=[some(class)] { (cell) } }
                        }
                    }
                }
            }
        }
    }
}

/// A row of a table.
pub(crate) struct Row {
    /// What the key `c` copies.
    pub(crate) id: Option<String>,
    pub(crate) cells: Vec<Markup>,
}

fn some<'a>(class: &&'a str) -> Option<&'a str> {
    Some(*class).filter(|class| !class.is_empty())
}
