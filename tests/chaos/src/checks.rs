//! What must hold after the run. Each check returns its violations.

mod attempts;
mod books;
mod deleted;
mod lost;
mod off;
mod repeats;

use crate::{
    facts::Facts, incident::Chronicle, ledger::Ledger, logbook::Logbook, operator::Operator,
    records::Records, watch::Watch,
};

pub(crate) use repeats::Repeats;

/// The evidence that the checks examine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) facts: &'a Facts,
    /// Whether the referee has seen who claimed which job: those of a queue in the database.
    pub(crate) knows_claims: bool,
    pub(crate) ledger: &'a Ledger,
    pub(crate) operator: &'a Operator,
    pub(crate) chronicle: &'a Chronicle,
    pub(crate) logbook: &'a Logbook,
    pub(crate) watch: &'a Watch,
}

/// Returns all violations, and how many requests were repeats.
pub(crate) async fn all(evidence: Evidence<'_>, records: &Records) -> (Vec<String>, Repeats) {
    let (repeats, mut wrong) = repeats::check(evidence);
    wrong.extend(lost::check(evidence));
    wrong.extend(attempts::check(evidence.facts));
    wrong.extend(off::check(evidence));
    wrong.extend(deleted::check(evidence));
    wrong.extend(books::check(evidence, records).await);
    (wrong, repeats)
}
