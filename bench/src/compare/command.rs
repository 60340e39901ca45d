//! Commands that must succeed.

use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::progress::check_interrupted;

/// Runs a command and returns its output without the line feed at the end. The failure
/// contains the last message of the command.
pub(super) fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::NoProgram {
            program: command.get_program().to_string_lossy().into_owned(),
            error,
        })?;
    if !output.status.success() {
        // The signal that interrupts this program ends the command, too.
        check_interrupted()?;
        let messages = String::from_utf8_lossy(&output.stderr);
        let last = messages.trim_end().lines().last();
        let why = last.map_or_else(|| output.status.to_string(), str::to_owned);
        return Err(Failure::Command(name(command), why));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// Returns a command as a user types it.
pub(super) fn name(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(
        command
            .get_args()
            .map(|argument| argument.to_string_lossy()),
    );
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_command() {
        let echo = output(Command::new("echo").arg("one\ntwo"));
        assert_eq!(echo.unwrap(), "one\ntwo");
        let absent = output(&mut Command::new("absent-program")).unwrap_err();
        assert!(
            matches!(&absent, Failure::NoProgram { program, .. } if program == "absent-program"),
            "{absent}"
        );
        let failed = output(Command::new("sh").args(["-c", "echo first; echo why >&2; false"]));
        assert_eq!(
            failed.unwrap_err().to_string(),
            "sh -c echo first; echo why >&2; false: why"
        );
    }
}
