//! The reference of commands, as a page.

use clap::{Arg, ArgAction, Command};

use super::markdown::table;

const INTRODUCTION: &str = "\
# Command reference

Every command with its arguments, generated from `pipe --help` by `just docs`.

Results go to stdout, everything else to stderr. [Exit statuses](../guide/troubleshooting.md#exit-status) are one table for
all commands.

";

/// `docs/reference/commands.md`.
pub(super) fn page(mut command: Command) -> String {
    command.build();
    let mut page = INTRODUCTION.to_owned();
    page += "## Options of every command\n\n";
    page += &arguments(command.get_arguments().filter(|argument| shown(argument)));
    for command in
        command.get_subcommands_mut().filter(|command| !command.is_hide_set() && command.get_name() != "help")
    {
        page += &section(command);
    }
    format!("{}\n", page.trim_end())
}

/// What the program ends with.
pub(super) fn statuses(statuses: &[(u8, &str)]) -> String {
    table(["status", "meaning"], statuses.iter().map(|(status, meaning)| [status.to_string(), (*meaning).to_owned()]))
}

fn section(command: &mut Command) -> String {
    let usage = command.render_usage().to_string();
    let usage = usage.trim().trim_start_matches("Usage:").trim();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("\n## pipe {}\n\n{about}.\n\n    {usage}\n", command.get_name());
    let own: Vec<&Arg> =
        command.get_arguments().filter(|argument| shown(argument) && !argument.is_global_set()).collect();
    if !own.is_empty() {
        text += &format!("\n{}", arguments(own.into_iter()));
    }
    text
}

/// Help and version are everywhere.
fn shown(argument: &Arg) -> bool {
    !argument.is_hide_set() && !matches!(argument.get_id().as_str(), "help" | "version")
}

fn arguments<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let (positional, options): (Vec<_>, Vec<_>) = arguments.partition(|argument| argument.is_positional());
    table(["argument", "default", "environment", "meaning"], positional.into_iter().chain(options).map(row))
}

fn row(argument: &Arg) -> [String; 4] {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    // Defaults that depend on something else are written into the text.
    let (help, written) = match help.rsplit_once(" [default: ") {
        Some((help, default)) => (help.to_owned(), Some(default.trim_end_matches(']').to_owned())),
        None => (help, None),
    };
    let values = argument.get_possible_values();
    let named = values.iter().filter(|value| !value.is_hide_set());
    let named: Vec<String> = named.map(|value| format!("`{}`", value.get_name())).collect();
    let is_flag = !argument.get_action().takes_values();
    let meaning = if named.is_empty() || is_flag { help } else { format!("{help}: {}", named.join(", ")) };
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let default = match defaults.join(", ") {
        _ if is_flag => String::new(),
        default if default.is_empty() => written.unwrap_or_default(),
        default => format!("`{default}`"),
    };
    let variable = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
    [name(argument), default, variable, meaning]
}

/// How the argument is written on the command line.
fn name(argument: &Arg) -> String {
    let values: Vec<String> = argument.get_value_names().into_iter().flatten().map(ToString::to_string).collect();
    let value = if values.is_empty() { argument.get_id().as_str().to_uppercase() } else { values.join(" ") };
    if argument.is_positional() {
        let repeated = matches!(argument.get_action(), ArgAction::Append)
            || argument.get_num_args().is_some_and(|count| count.max_values() > 1);
        let value = format!("{value}{}", if repeated { "…" } else { "" });
        return format!("`{}`", if argument.is_required_set() { value } else { format!("[{value}]") });
    }
    let long = argument.get_long().map(|long| format!("--{long}"));
    let short = argument.get_short().map(|short| format!("-{short}"));
    let others = argument.get_visible_aliases().into_iter().flatten().map(|alias| format!("--{alias}"));
    let written: Vec<String> = short.into_iter().chain(long).chain(others).collect();
    let written = written.join(", ");
    if argument.get_action().takes_values() { format!("`{written} {value}`") } else { format!("`{written}`") }
}
