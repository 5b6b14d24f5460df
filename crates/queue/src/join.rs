//! What a claim reads beside the jobs that it takes.

use std::fmt::Write as _;
use std::sync::OnceLock;

/// Columns of other tables that a claim reads about each job, in the same round trip, as the statement's snapshot shows
/// them.
#[derive(Debug)]
pub struct Join {
    columns: Vec<(&'static str, String)>,
    joins: String,
    /// The claim's statement with both.
    statement: OnceLock<String>,
}

impl Join {
    /// Columns, as names and expressions, and the joins that they need. The jobs are the table `taken` with the columns
    /// `id`, `lane`, `owner` and `subject`. A join must keep each row of it, and no column may have the name of one that a
    /// claim returns itself: prefix those.
    pub fn new(columns: Vec<(&'static str, String)>, joins: String) -> Self {
        Self { columns, joins, statement: OnceLock::new() }
    }

    /// Fills in the places that the statement of a claim leaves for it.
    pub(crate) fn fill(&self, statement: &str) -> &str {
        self.statement.get_or_init(|| {
            let (mut nulls, mut columns) = (String::new(), String::new());
            for (name, expression) in &self.columns {
                // Writing to a string does not fail. The type of a NULL is that of the jobs' column.
                let _ = write!(nulls, ", NULL AS {name}");
                let _ = write!(columns, ", {expression}");
            }
            statement
                .replace("/* no columns */", &nulls)
                .replace("/* columns */", &columns)
                .replace("/* joins */", &format!(" {}", self.joins))
        })
    }
}
