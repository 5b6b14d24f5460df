//! The settings that each PostgreSQL session needs, whatever the server, the database or the role has as its defaults.

use std::time::Duration;

use crate::Config;

/// How long PostgreSQL takes at most to notice that the client of a running statement has gone.
pub(crate) const NOTICED: Duration = Duration::from_secs(1);

/// A setting of a session.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) needed: Needed,
}

/// The value that a setting needs.
#[derive(Clone, Debug)]
pub(crate) enum Needed {
    /// Exactly this one.
    Exactly(&'static str),
    /// Any except the first, in whose place the second is set.
    Not(&'static str, &'static str),
    /// A time limit: longer ones, and none, are replaced by this one.
    Limit(Duration),
}

impl Setting {
    const fn exactly(name: &'static str, value: &'static str) -> Self {
        Self { name, needed: Needed::Exactly(value) }
    }

    /// The value to set.
    pub(crate) fn value(&self) -> String {
        match self.needed {
            Needed::Exactly(value) | Needed::Not(_, value) => value.to_owned(),
            Needed::Limit(limit) => limit.as_millis().to_string(),
        }
    }

    /// Returns whether `value`, as `pg_settings` has it, will do.
    pub(crate) fn is_met_by(&self, value: &str) -> bool {
        match self.needed {
            Needed::Exactly(needed) => value == needed,
            Needed::Not(wrong, _) => value != wrong,
            Needed::Limit(limit) => {
                value.parse::<u128>().is_ok_and(|value| (1..=limit.as_millis()).contains(&value))
            }
        }
    }

    /// The statement that sets it.
    fn set(&self) -> String {
        let (name, value) = (self.name, self.value());
        match self.needed {
            // What else the operator has chosen stays.
            Needed::Not(wrong, _) => format!(
                "SELECT set_config('{name}', '{value}', false) WHERE current_setting('{name}') = '{wrong}'"
            ),
            Needed::Exactly(_) | Needed::Limit(_) => format!("SET {name} = '{value}'"),
        }
    }
}

/// The settings of each session.
///
/// They are not among the start-up options, which poolers refuse.
pub(crate) fn settings(config: &Config) -> Vec<Setting> {
    vec![
        // Statements assume that each sees what was committed before it, and that a lock is waited for. Stricter levels
        // fail in both cases.
        Setting::exactly("default_transaction_isolation", "read committed"),
        // A 202 says that the event is on disk.
        Setting { name: "synchronous_commit", needed: Needed::Not("off", "on") },
        Setting::exactly("standard_conforming_strings", "on"),
        Setting {
            name: "idle_in_transaction_session_timeout",
            needed: Needed::Limit(config.idle_transaction_timeout),
        },
        // Plans are kept, as planning costs more than running a statement that serves a few rows. Every query has its
        // index, so sequential and bitmap scans are off: a plan that was made while a table was nearly empty stays in use
        // when it has grown.
        Setting::exactly("plan_cache_mode", "force_generic_plan"),
        Setting::exactly("enable_seqscan", "off"),
        Setting::exactly("enable_bitmapscan", "off"),
        Setting::exactly("enable_indexscan", "on"),
        Setting::exactly("enable_nestloop", "on"),
        // PostgreSQL rates a scan that cannot be avoided so costly then that it would compile it, for a quarter of a
        // second.
        Setting::exactly("jit", "off"),
    ]
}

/// The limits of a statement, which ends before its caller gives up, or when its caller has gone. Migrations have none.
fn limits(config: &Config) -> Vec<Setting> {
    vec![
        Setting { name: "statement_timeout", needed: Needed::Limit(config.statement_timeout()) },
        Setting { name: "lock_timeout", needed: Needed::Limit(config.lock_timeout()) },
        Setting { name: "client_connection_check_interval", needed: Needed::Limit(NOTICED) },
    ]
}

/// What sessions that deliver events need: the settings of each, and the limits.
pub(crate) fn all(config: &Config) -> Vec<Setting> {
    [settings(config), limits(config)].concat()
}

/// What each of our own connections runs first.
pub(crate) fn setup(config: &Config) -> String {
    set(&all(config))
}

/// One text that sets all `settings`, in one round trip.
pub(crate) fn set(settings: &[Setting]) -> String {
    settings.iter().map(Setting::set).collect::<Vec<_>>().join("; ")
}
