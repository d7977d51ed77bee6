//! Options that come from the environment instead of the command line.

use std::env;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};

/// Makes a variable that is set to nothing count as not set, as it is in files of variables.
pub(super) fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let value = argument.get_env().and_then(env::var_os);
        if value.is_some_and(|value| value.is_empty()) { argument.env(Resettable::Reset) } else { argument }
    });
    command.mut_subcommands(without_empty_variables)
}

/// Returns the variable that has the value that an error is about, if the value comes from a variable. clap's
/// own message names only the option.
pub(super) fn variable_at_fault(error: &clap::Error, command: &mut Command) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    // Only then do arguments have the form in which errors show them.
    command.build();
    let argument = find(command, argument)?;
    let variable = argument.get_env()?;
    let option = format!("--{}", argument.get_long()?);
    let is_option = |typed: String| typed.split('=').next() == Some(&option);
    let is_typed = env::args_os().filter_map(|typed| typed.into_string().ok()).any(is_option);
    (env::var_os(variable).is_some() && !is_typed).then(|| variable.display().to_string())
}

fn find<'a>(command: &'a Command, shown: &str) -> Option<&'a Arg> {
    let own = command.get_arguments().find(|argument| argument.to_string() == shown);
    own.or_else(|| command.get_subcommands().find_map(|command| find(command, shown)))
}
