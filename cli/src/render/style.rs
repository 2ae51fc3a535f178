//! Colour, symbols and escaping. Every state has a word and a symbol; colour is never the only sign.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};

/// Set once from `LANG`/`LC_ALL` and `--ascii`.
static ASCII: AtomicBool = AtomicBool::new(false);

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// At a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Applies `--color` and the locale. `NO_COLOR` and `CLICOLOR_FORCE` are honoured by anstream itself.
pub fn set_up(color: Color) {
    match color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|key| std::env::var(key).ok().filter(|v| !v.is_empty()))
        .unwrap_or_default()
        .to_ascii_lowercase();
    let utf8 = locale.contains("utf-8") || locale.contains("utf8");
    ASCII.store(!utf8, Ordering::Relaxed);
}

/// Whether a person watches stderr.
#[must_use]
pub fn is_live() -> bool {
    std::io::stderr().is_terminal()
}

fn pick(unicode: &'static str, ascii: &'static str) -> &'static str {
    if ASCII.load(Ordering::Relaxed) { ascii } else { unicode }
}

/// How good a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Under way.
    Busy,
    /// Not begun, or nothing to say.
    Quiet,
    /// Look at it.
    Warning,
    /// Bad.
    Bad,
}

/// The tone of any state word of the vocabulary.
#[must_use]
pub fn tone(word: &str) -> Tone {
    match word {
        "READY" | "HEALTHY" | "SUCCEEDED" | "VERIFIED" | "LEADER" | "FOLLOWER" | "Safe" | "ok"
        | "WRITTEN" | "CAUGHT_UP" | "DRILLED" | "APPROVED" | "HELD" | "COMPLETED" => Tone::Good,
        "RUNNING" | "STARTING" | "SOAKING" | "STOPPING" | "PAUSING" | "CANCELING" | "QUEUED" | "LEARNER"
        | "CANDIDATE" | "DRAINING" | "ROLLING_BACK" | "REQUESTED" | "CONFIRMED" | "FENCING" | "FENCED"
        | "PROMOTING" | "TRAFFIC_SWITCHING" | "VERIFYING" => Tone::Busy,
        "PENDING" | "PLANNED" | "SKIPPED" | "STOPPED" | "CANCELED" | "NONE" | "ELIGIBLE" | "REMOVED"
        | "DRAINED" | "UPCOMING" | "ENDED" => Tone::Quiet,
        "DISCONNECTED" | "AT_RISK" | "BLOCKED" | "PAUSED" | "CORDONED" | "LAGGING" | "UNKNOWN"
        | "refused" | "ACTIVE" | "AWAITING_APPROVAL" | "MAINTENANCE" | "ROLLED_BACK" | "COMPENSATING"
        | "COMPENSATED" | "WARNING" | "SUSPECTED" | "RELEASED" | "HOLD_DOWN" => Tone::Warning,
        _ => Tone::Bad,
    }
}

/// `✔ Ready`: symbol and word of a state.
#[must_use]
pub fn state(word: &str) -> String {
    mark(tone(word), &title(word))
}

/// The symbol and the colour of a tone before a text.
#[must_use]
pub fn mark(tone: Tone, text: &str) -> String {
    let (symbol, color) = match tone {
        Tone::Good => (pick("✔", "+"), AnsiColor::Green),
        Tone::Busy => (pick("●", "*"), AnsiColor::Cyan),
        Tone::Quiet => (pick("○", "o"), AnsiColor::BrightBlack),
        Tone::Warning => ("!", AnsiColor::Yellow),
        Tone::Bad => (pick("✘", "x"), AnsiColor::Red),
    };
    paint(&format!("{symbol} {text}"), color)
}

/// Between the parts of one line.
#[must_use]
pub fn separator() -> &'static str {
    pick(" · ", " | ")
}

/// `ROLLED_BACK` as `Rolled back`.
#[must_use]
pub fn title(word: &str) -> String {
    capital(&word.to_ascii_lowercase().replace('_', " "))
}

/// With a capital at its beginning.
#[must_use]
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

/// Filled and empty dots for a quorum.
#[must_use]
pub fn dots(up: u32, all: u32) -> String {
    let filled = pick("●", "#").repeat(up.min(all) as usize);
    filled + &pick("○", "-").repeat(all.saturating_sub(up) as usize)
}

/// A text in a colour; anstream takes the colour out where nobody sees it.
#[must_use]
pub fn paint(text: &str, color: AnsiColor) -> String {
    let style = Style::new().fg_color(Some(color.into()));
    format!("{style}{text}{style:#}")
}

/// A text in bold.
#[must_use]
pub fn bold(text: &str) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}")
}

/// Text from a host made safe for a terminal: no control characters, no escape codes, no direction overrides.
#[must_use]
pub fn safe(text: &str) -> String {
    quorate_common::telemetry::sanitize(text).to_string()
}
