//! Completions: what the tool answers a shell, and what bash makes of it.

use std::path::Path;
use std::process::Command;

use crate::run::{command, stdout};
use crate::support::{TestKey, TestName, leave_a_death, on_stage};
use shm_sync::{Segment, ShmCondvar, ShmMutex};

type Counter = ShmMutex<u64>;
type Farm = ([Counter; 3], ShmCondvar);

fn farm() -> Farm {
    (std::array::from_fn(|_| Counter::new(0)), ShmCondvar::new())
}

/// Returns the candidates for the last word of a command line, without options.
fn candidates(words: &[&str]) -> Vec<String> {
    let mut arguments = vec!["--", "shm-sync"];
    arguments.extend(words);
    let mut tool = command(&arguments);
    tool.env("SHM_SYNC_COMPLETE", "bash");
    tool.env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    let output = tool.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.lines().map(|line| line.trim_end().to_owned());
    words.filter(|word| !word.starts_with('-')).collect()
}

/// Returns what bash offers for the last word of a command line, or `None` without
/// bash.
fn in_bash(line: &str) -> Option<String> {
    let tool = Path::new(env!("CARGO_BIN_EXE_shm-sync"));
    let script = r#"
        PATH=$TOOL:$PATH
        source <(shm-sync completions bash)
        COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9
        # The words as readline splits them: at spaces, and at and around colons.
        read -ra COMP_WORDS <<<"${LINE//:/ : }"
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        word=${COMP_WORDS[COMP_CWORD]}
        [[ $word != : ]] || word=
        complete -p shm-sync | grep -o '_clap[a-z_]*' >/dev/null
        $(complete -p shm-sync | sed 's/.*-F \([^ ]*\).*/\1/') shm-sync "$word" x
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let bash = Command::new("bash")
        .args(["--norc", "-c", script])
        .env("TOOL", tool.parent().unwrap())
        .env("LINE", line)
        .output();
    match bash {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
        Err(error) => {
            println!("skipped, because bash is missing: {error}");
            None
        }
    }
}

on_stage! {
    fn smoke() {
        assert_eq!(candidates(&["clear"]), ["clear-poison"]);
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = stdout(&["completions", shell]);
            assert!(script.contains("SHM_SYNC_COMPLETE"), "{shell}: {script}");
        }
    }

    fn segments_are_completed() {
        let name = TestName::new("complete");
        let _segment = Segment::create(&name, farm()).unwrap();
        for command in ["show", "watch", "rm", "clear-poison", "export-c"] {
            assert_eq!(candidates(&[command, &name[..name.len() - 1]]), [&*name], "{command}");
            assert!(candidates(&[command, ""]).contains(&name.to_string()), "{command}");
        }
        let me = std::process::id().to_string();
        assert!(candidates(&["maps", ""]).contains(&me));
        assert_eq!(candidates(&["show", "/etc/passw"])[0], "/etc/passwd", "no segment matches");
    }

    fn lock_fields_are_completed() {
        let name = TestName::new("complete-fields");
        let segment = Segment::create(&name, farm()).unwrap();
        let all = [".0[0]", ".0[1]", ".0[2]"];
        assert_eq!(candidates(&["clear-poison", &name, ""]), all);
        assert_eq!(candidates(&["clear-poison", "--yes", &name, ".0[1"]), [".0[1]"]);
        leave_a_death(&segment.0[2]);
        assert_eq!(candidates(&["clear-poison", &name, ""]), [".0[2]"], "the poisoned one");
        assert!(candidates(&["clear-poison", "/shm-sync-absent", ""]).is_empty());
    }

    // bash inserts a candidate without quotes.
    fn names_that_a_shell_runs_are_not_offered() {
        let names = ["a;reboot", "a b", "$(reboot)", "`reboot`", "a\n", "\x1b[2J", "a&b", "a*"];
        let names = names.map(|name| TestName::new(&format!("evil{name}")));
        for name in &names {
            std::mem::forget(Segment::create(name, Counter::new(0)).unwrap());
        }
        let offered = candidates(&["show", "/shm-sync-test-evil"]);
        assert!(offered.is_empty(), "{offered:?}");
    }

    fn bash_completes_segments_and_fields() {
        let name = TestName::new("complete-bash");
        let segment = Segment::create(&name, farm()).unwrap();
        leave_a_death(&segment.0[1]);
        let Some(offered) = in_bash(&format!("shm-sync show {}", &name[..name.len() - 2])) else {
            return;
        };
        assert_eq!(offered.trim(), &*name);
        let offered = in_bash(&format!("shm-sync clear-poison {} .", &*name)).unwrap();
        assert_eq!(offered.trim(), ".0[1]");
        assert!(in_bash("shm-sync clear-").unwrap().starts_with("clear-poison"));
    }

    fn bash_completes_after_colons() {
        let key = TestKey::new();
        let _segment = Segment::create(&key, farm()).unwrap();
        let (kind, number) = key.split_once(':').unwrap();
        let Some(offered) = in_bash(&format!("shm-sync show {kind}:{}", &number[..9])) else {
            return;
        };
        // bash keeps the part before the colon.
        assert_eq!(offered.trim(), number);
        let offered = in_bash(&format!("shm-sync clear-poison {} .0[2", &*key)).unwrap();
        assert_eq!(offered.trim(), ".0[2]");
    }
}
