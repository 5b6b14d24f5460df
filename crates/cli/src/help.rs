//! Rules that the help of all commands follows, so that it reads as one text.

use clap::{Command, CommandFactory as _};

use crate::Args;

/// Calls `check` with each command and its name.
fn each(command: &Command, name: &str, check: &mut impl FnMut(&str, &Command)) {
    check(name, command);
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        each(sub, &format!("{name} {}", sub.get_name()), check);
    }
}

fn problem(text: &str) -> Option<&'static str> {
    let first = text.lines().next().unwrap_or_default();
    match first.chars().next() {
        None => Some("is empty"),
        Some(c) if c.is_lowercase() => Some("begins with a small letter"),
        _ if first.ends_with('.') => Some("ends with a full stop"),
        _ if first.chars().count() > 130 => Some("is longer than a line"),
        _ => None,
    }
}

#[test]
fn each_command_and_argument_has_help_of_one_form() {
    let mut found = Vec::new();
    each(&Args::command(), "postrider", &mut |name, command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        found.extend(problem(&about).map(|problem| format!("{name} {problem}: {about}")));
        for arg in command.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            found.extend(problem(&help).map(|problem| format!("{name} {} {problem}: {help}", arg.get_id())));
        }
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn commands_beside_each_other_say_different_things() {
    let mut found = Vec::new();
    each(&Args::command(), "postrider", &mut |name, command| {
        let mut abouts: Vec<_> =
            command.get_subcommands().filter_map(|sub| Some(sub.get_about()?.to_string())).collect();
        abouts.sort_unstable();
        found.extend(
            abouts.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| format!("{name}: {}", pair[0])),
        );
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn each_client_command_has_an_example_that_parses() {
    // They take no example: they begin with what `--help` lists, or stand in the documentation of their settings.
    const WITHOUT: [&str; 7] = ["demo", "serve", "dev", "migrate", "rekey", "queue", "retention"];
    let mut found = Vec::new();
    each(&Args::command(), "postrider", &mut |name, command| {
        let group = name.split(' ').nth(1).unwrap_or_default();
        if command.has_subcommands() || WITHOUT.contains(&group) || group == "plugins" {
            return;
        }
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let Some(example) = after.strip_prefix("Example: ") else {
            return found.push(format!("{name} has no example"));
        };
        let line = example.split(['|', '<', '>']).next().unwrap_or_default();
        if !example.starts_with(name) {
            found.push(format!("{name}: the example is of another command: {example}"));
        }
        if let Err(error) = Args::command().try_get_matches_from(words(line)) {
            found.push(format!("{example}: {error}"));
        }
    });
    assert!(found.is_empty(), "{found:#?}");
}

/// Splits a line as a shell does that knows single quotes only.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (number, part) in line.trim().split('\'').enumerate() {
        let quoted = number % 2 == 1;
        let mut pieces = part.split(|c| c == ' ' && !quoted);
        if let Some((last, first)) = words.last_mut().zip(pieces.next()) {
            last.push_str(first);
        }
        words.extend(pieces.map(str::to_owned));
    }
    words.retain(|word| !word.is_empty());
    words
}
