//! Settings as they may be shown: all that a program has, with secrets masked.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use postrider_core::ShownSetting;

use crate::file::File;

/// Returns the settings of a parsed command line, in the order of their names.
pub(crate) fn shown(command: &Command, matches: &ArgMatches, file: &File) -> Vec<ShownSetting> {
    let mut found: Vec<ShownSetting> = command
        .get_arguments()
        .filter_map(|arg| {
            let name = arg.get_env()?.to_str()?.to_owned();
            let id = arg.get_id().as_str();
            let values = matches.try_get_raw(id).ok().flatten();
            let value = values
                .map(|values| values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(","));
            let value = value.filter(|value| !value.is_empty());
            let is_secret = arg.is_hide_env_values_set();
            // A value from the file is a default to clap.
            let source = matches.value_source(id);
            let given = source.is_some_and(|source| source != ValueSource::DefaultValue)
                || file.values.contains_key(id);
            Some(ShownSetting {
                name,
                help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
                masked: is_secret && value.is_some(),
                value: value.filter(|_| !is_secret),
                given,
            })
        })
        .collect();
    if let Some((name, matches)) = matches.subcommand()
        && let Some(command) = command.find_subcommand(name)
    {
        let inner = shown(command, matches, file);
        // A global argument is in both.
        found.retain(|outer| inner.iter().all(|inner| inner.name != outer.name));
        found.extend(inner);
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}
