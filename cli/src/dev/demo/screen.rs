//! The demonstration's live line: redrawn in place at a terminal, otherwise one timestamped line per change.

use std::io::{IsTerminal as _, Write as _};

use quorate_proto::v1::Operation;

use super::Sample;
use crate::dev::daemon::say;

/// Where the quorum is drawn.
#[derive(Debug)]
pub(super) struct Screen {
    live: bool,
    unicode: bool,
    last: String,
}

impl Screen {
    pub(super) fn new() -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
            .unwrap_or_default()
            .to_ascii_lowercase();
        let unicode = locale.contains("utf-8") || locale.contains("utf8");
        Self { live: std::io::stderr().is_terminal(), unicode, last: String::new() }
    }

    pub(super) fn draw(&mut self, sample: &Sample, operation: &Operation, note: &str) {
        let line = line(sample, operation, note, self.unicode);
        if line == self.last {
            return;
        }
        if self.live {
            // Back to the first column and clear the line; a closed terminal is no failure of the demonstration.
            let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
            let _ = std::io::stderr().flush();
        } else {
            say(&line);
        }
        self.last = line;
    }

    /// Leaves the last line standing.
    pub(super) fn end(&mut self) {
        if self.live && !self.last.is_empty() {
            let _ = writeln!(std::io::stderr());
        }
        self.last.clear();
    }
}

fn line(sample: &Sample, operation: &Operation, note: &str, unicode: bool) -> String {
    let (up, down) = if unicode { ("●", "○") } else { ("#", ".") };
    let dots: String =
        sample.members.iter().map(|(_, _, serving)| if *serving { up } else { down }).collect();
    let members: Vec<String> =
        sample.members.iter().map(|(node, word, _)| format!("{node} {word:<11}")).collect();
    let state = operation.state().as_str_name().trim_start_matches("OPERATION_STATE_");
    let wave = format!("wave {} of {}", operation.current_wave, operation.waves);
    let mut line = format!(
        "ledger {dots}  {} of {} serving, needs 2   {}  {state}  {wave}",
        sample.serving,
        sample.members.len(),
        members.join(" ")
    );
    if !note.is_empty() {
        line.push_str("  ");
        line.push_str(note);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_words_beside_the_symbols() {
        let member = |node: &str, word: &str, serving| (node.to_owned(), word.to_owned(), serving);
        let sample = Sample {
            serving: 1,
            members: vec![member("node1", "leader", true), member("node2", "catching_up", false)],
        };
        let operation = Operation { waves: 3, current_wave: 2, ..Default::default() };
        let text = line(&sample, &operation, "", false);
        assert!(
            text.starts_with("ledger #.  1 of 2 serving, needs 2   node1 leader      node2 catching_up"),
            "{text}"
        );
        assert!(text.ends_with("wave 2 of 3"), "{text}");
        assert!(line(&sample, &operation, "why", true).contains("●○"));
    }
}
