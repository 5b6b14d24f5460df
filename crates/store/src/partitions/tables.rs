//! The names under which a statement finds its rows.

/// The names under which a statement finds its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    /// The end of the partitions' names; `None` for the whole tables.
    suffix: Option<String>,
}

impl Tables {
    pub(crate) const WHOLE: Self = Self { suffix: None };

    /// The tables of the partition whose name ends so; the whole tables if there is none.
    pub(super) fn of(suffix: Option<String>) -> Self {
        Self { suffix }
    }

    pub(crate) fn events(&self) -> String {
        self.name("events")
    }

    pub(crate) fn deliveries(&self) -> String {
        self.name("deliveries")
    }

    /// For an `UPDATE`, which calls its rows `deliveries`.
    pub(crate) fn deliveries_to_update(&self) -> String {
        match &self.suffix {
            Some(suffix) => format!("deliveries_{suffix} AS deliveries"),
            None => "deliveries".to_owned(),
        }
    }

    fn name(&self, table: &str) -> String {
        self.suffix.as_ref().map_or_else(|| table.to_owned(), |suffix| format!("{table}_{suffix}"))
    }
}
