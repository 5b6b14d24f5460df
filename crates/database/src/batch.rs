//! Rows that one statement reads as a table.
//!
//! A statement for a hundred rows costs little more than a statement for one. A [`Batch`] passes its rows to a statement as a common table expression named `input`: on PostgreSQL from
//! arrays (`UNNEST`), so that one prepared statement serves any number of rows; on SQLite from
//! `VALUES`. The statement after it is the same for both.

use sea_orm::sea_query::{ArrayType, Value};
use sea_orm::{ConnectionTrait, QueryResult, Statement};

use crate::{DatabaseError, Dialect};

/// The type of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `uuid`; sixteen bytes on SQLite.
    Uuid,
    /// `text`.
    Text,
    /// `bytea`; a blob on SQLite.
    Bytes,
    /// `smallint`.
    Small,
    /// `integer`.
    Int,
    /// `bigint`.
    Big,
    /// `boolean`.
    Bool,
}

/// A column of a batch: its name, its type, and whether its values may be NULL.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    name: &'static str,
    kind: Kind,
    nullable: bool,
}

impl Column {
    /// A column that is never NULL.
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, nullable: false }
    }

    /// A column that may be NULL.
    pub const fn nullable(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, nullable: true }
    }
}

/// Rows that one statement reads as the table `input`.
///
/// The statement's own parameters come first (`$1`, `$2`, …); those of the rows follow them.
#[derive(Clone, Debug)]
pub struct Batch {
    columns: &'static [Column],
    /// Column by column, like PostgreSQL's arrays.
    values: Vec<Vec<Value>>,
}

/// SQLite's limit of parameters in one statement (`SQLITE_MAX_VARIABLE_NUMBER`), less some for the
/// statement's own.
const SQLITE_PARAMETERS: usize = 32_000;

impl Batch {
    /// A batch without rows.
    pub fn new(columns: &'static [Column]) -> Self {
        Self { columns, values: vec![Vec::new(); columns.len()] }
    }

    /// Adds a row: a value for each column, in the order of the columns.
    pub fn push<const N: usize>(&mut self, row: [Value; N]) {
        debug_assert_eq!(N, self.columns.len(), "a row needs a value for each column");
        for (column, value) in self.values.iter_mut().zip(row) {
            column.push(value);
        }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// Returns whether the batch has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs `statement` with the rows as the table `input`, and returns the rows it returns.
    ///
    /// `statement` continues a `WITH input(…) AS (…)`: it starts with `SELECT`, `INSERT`, `UPDATE`
    /// or `DELETE`, or with `, name AS (…)`.
    ///
    /// # Errors
    /// Fails if the database is unavailable or refuses the statement.
    pub async fn query(
        self,
        connection: &impl ConnectionTrait,
        statement: &str,
        parameters: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>, DatabaseError> {
        let mut rows = Vec::new();
        for statement in self.statements(Dialect::of(connection), statement, parameters) {
            rows.append(&mut connection.query_all_raw(statement).await?);
        }
        Ok(rows)
    }

    /// Runs `statement` with the rows as the table `input`, as [`Batch::query`] does, and returns
    /// how many rows it changed.
    ///
    /// # Errors
    /// Fails if the database is unavailable or refuses the statement.
    pub async fn execute(
        self,
        connection: &impl ConnectionTrait,
        statement: &str,
        parameters: impl IntoIterator<Item = Value>,
    ) -> Result<u64, DatabaseError> {
        let mut changed = 0;
        for statement in self.statements(Dialect::of(connection), statement, parameters) {
            changed += connection.execute_raw(statement).await?.rows_affected();
        }
        Ok(changed)
    }

    /// No statement for no rows; one on PostgreSQL; on SQLite as many as its limit of parameters requires.
    fn statements(
        self,
        dialect: Dialect,
        statement: &str,
        parameters: impl IntoIterator<Item = Value>,
    ) -> Vec<Statement> {
        let own: Vec<Value> = parameters.into_iter().collect();
        if self.is_empty() {
            return Vec::new();
        }
        match dialect {
            Dialect::Postgres => {
                let mut parameters = own;
                let sql = self.unnest(statement, "", &mut parameters);
                vec![Statement::from_sql_and_values(Dialect::Postgres.backend(), sql, parameters)]
            }
            Dialect::Sqlite => self.values(statement, &own),
        }
    }

    fn names(&self) -> String {
        self.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
    }

    /// The statement for PostgreSQL. Appends the rows to `parameters`. `filter` is empty or a `WHERE` clause for the rows.
    pub(crate) fn unnest(self, statement: &str, filter: &str, parameters: &mut Vec<Value>) -> String {
        let names = self.names();
        let (mut columns, mut selected) = (Vec::new(), Vec::new());
        for (column, values) in self.columns.iter().zip(self.values) {
            let Column { name, kind, nullable } = *column;
            // SeaORM's arrays hold no NULLs, so a second array says which values are NULL.
            if nullable {
                let missing = values.iter().map(|value| Value::Bool(Some(!value.is_some()))).collect();
                parameters.push(Value::Array(ArrayType::Bool, Some(Box::new(missing))));
                columns.push(format!("UNNEST(${}::boolean[]) AS {name}_missing", parameters.len()));
                selected.push(format!("CASE WHEN {name}_missing THEN NULL ELSE {name} END"));
            } else {
                selected.push(name.to_owned());
            }
            let values =
                values.into_iter().map(|value| if value.is_some() { value } else { kind.filler() }).collect();
            parameters.push(Value::Array(kind.array_type(), Some(Box::new(values))));
            columns.push(format!("UNNEST(${}::{}[]) AS {name}", parameters.len(), kind.postgres()));
        }
        // Not `FROM UNNEST(a, b)`, which PostgreSQL would materialise first: twice the work.
        format!(
            "WITH input({names}) AS (SELECT {} FROM (SELECT {}) AS rows{filter}) {statement}",
            selected.join(", "),
            columns.join(", "),
        )
    }

    fn values(self, statement: &str, own: &[Value]) -> Vec<Statement> {
        let names = self.names();
        let width = self.columns.len();
        let length = self.len();
        let mut columns: Vec<_> = self.values.into_iter().map(Vec::into_iter).collect();
        let at_once = (SQLITE_PARAMETERS / width).max(1);
        // `$1` is a name to SQLite, which looks names up one by one: ten thousand of them take seconds. So the rows'
        // parameters are unnamed and continue the numbers of the statement's own, which are therefore listed first.
        let row = format!("({})", vec!["?"; width].join(","));
        let before = match own.len() {
            0 => String::new(),
            own => format!("own_parameters AS (VALUES {}), ", vec!["(?)"; own].join(",")),
        };
        let mut statements = Vec::new();
        for start in (0..length).step_by(at_once) {
            let count = at_once.min(length - start);
            let mut parameters = own.to_vec();
            let mut rows = Vec::with_capacity(count);
            for _ in 0..count {
                parameters.extend(columns.iter_mut().filter_map(Iterator::next));
                rows.push(row.as_str());
            }
            let sql = format!("WITH {before}input({names}) AS (VALUES {}) {statement}", rows.join(","));
            statements.push(Statement::from_sql_and_values(Dialect::Sqlite.backend(), sql, parameters));
        }
        statements
    }
}

impl Kind {
    const fn postgres(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Bytes => "bytea",
            Self::Small => "smallint",
            Self::Int => "integer",
            Self::Big => "bigint",
            Self::Bool => "boolean",
        }
    }

    const fn array_type(self) -> ArrayType {
        match self {
            Self::Uuid => ArrayType::Uuid,
            Self::Text => ArrayType::String,
            Self::Bytes => ArrayType::Bytes,
            Self::Small => ArrayType::SmallInt,
            Self::Int => ArrayType::Int,
            Self::Big => ArrayType::BigInt,
            Self::Bool => ArrayType::Bool,
        }
    }

    /// The value in an array where the column is NULL.
    const fn filler(self) -> Value {
        match self {
            Self::Uuid => Value::Uuid(Some(sea_orm::prelude::Uuid::nil())),
            Self::Text => Value::String(Some(String::new())),
            Self::Bytes => Value::Bytes(Some(Vec::new())),
            Self::Small => Value::SmallInt(Some(0)),
            Self::Int => Value::Int(Some(0)),
            Self::Big => Value::BigInt(Some(0)),
            Self::Bool => Value::Bool(Some(false)),
        }
    }
}
