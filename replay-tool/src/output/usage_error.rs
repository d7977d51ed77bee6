//! Errors in the command line, in one line.

use clap::error::ErrorKind;

/// What is wrong with the command line and where the correct usage is described. clap's own message has
/// several lines; scripts expect one.
pub(crate) fn in_one_line(error: &clap::Error) -> String {
    let text = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "a command is missing".to_owned()
        }
        _ => {
            let text = error.to_string();
            let lines = text.lines().map(str::trim);
            let said = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
            said.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
        }
    };
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    format!(
        "{text}; `replay-tool --help` lists the commands, `replay-tool <command> --help` the options of one"
    )
}
