//! Log lines for journald, over its native protocol (systemd's "Native Journal Protocol").
//!
//! Why not `tracing-journald`: it keeps a line's fields out of its text, so `journalctl -u quorate-agent`, which shows texts
//! only, says "session ended" and not why. Here the text carries the line's fields, too, made printable; and every field, those
//! of the spans around it as well, is one of its own for `journalctl QUORATE_OPERATION=…`.
//!
//! Must never: wait for the journal, end or panic because it is not there. What cannot be sent at once is lost.

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::sanitize_to;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// What every field of ours begins with: `operation` of a line becomes `QUORATE_OPERATION`.
const FIELD_PREFIX: &str = "QUORATE";
/// The most of one value that is sent, in bytes.
const VALUE_MAX: usize = 16 * 1024;
/// The most of a whole line. A datagram holds what the socket's send buffer does, some 200 KiB; what would be beyond this is
/// left out, and the message stands first.
const LINE_MAX: usize = 96 * 1024;
/// Characters of one value within the text.
const SHOWN_MAX: usize = 2_000;
/// Longest name of a field that journald takes.
const NAME_MAX: usize = 64;

/// The layer.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    /// Where to.
    path: PathBuf,
    /// What is the same in every line: whose it is.
    common: Vec<u8>,
}

impl Journal {
    /// Connects to journald. `own` is a field that each line carries.
    ///
    /// # Errors
    /// When its socket is out of reach, in a sandbox for instance.
    pub(super) fn connect(identifier: &str, own: (&str, &str)) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let path = PathBuf::from(SOCKET);
        // Journald takes an empty datagram for what it is. Not connected: a journal that was started again has another socket
        // under the same name.
        socket.send_to(&[], &path)?;
        let mut common = Vec::new();
        put(&mut common, "SYSLOG_IDENTIFIER", identifier);
        put(&mut common, &name_of(own.0), own.1);
        Ok(Self { socket, path, common })
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Journal {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut datagram = self.common.clone();
        put(&mut datagram, "MESSAGE", &fields.text());
        put(&mut datagram, "PRIORITY", priority(*event.metadata().level()));
        put(&mut datagram, "TARGET", event.metadata().target());
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(around) = span.extensions().get::<Fields>() {
                around.put_all(&mut datagram);
            }
        }
        fields.put_all(&mut datagram);
        let _ = self.socket.send_to(&datagram, &self.path); // nobody to tell
    }
}

/// Syslog's number for a level.
const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// What a line or a span has recorded.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    /// The message with its fields behind it. No value looks like another field or another line.
    fn text(&self) -> String {
        let mut text = sanitize_to(&self.message, SHOWN_MAX).to_string();
        for (name, value) in &self.others {
            let apart = if text.is_empty() { "" } else { " " };
            let value = sanitize_to(value, SHOWN_MAX).to_string();
            let quote = if value.contains([' ', '=', '"']) { "\"" } else { "" };
            let _ = write!(text, "{apart}{name}={quote}{}{quote}", value.replace('"', "'"));
        }
        text
    }

    fn put_all(&self, datagram: &mut Vec<u8>) {
        for (name, value) in &self.others {
            put(datagram, &name_of(name), value);
        }
    }

    fn set(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else if !field.name().starts_with("log.") {
            // Those of the `log` crate's bridge say where in the source, as `target` does.
            self.others.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field, format!("{value:?}"));
    }
}

/// The journal's name for a field of ours: capitals, digits and underscores.
fn name_of(field: &str) -> String {
    let mut name = format!("{FIELD_PREFIX}_");
    name.extend(field.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }));
    name.truncate(NAME_MAX);
    name
}

/// Adds one field in the form that may hold anything: name, newline, length, value, newline.
fn put(datagram: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value[..value.floor_char_boundary(VALUE_MAX)];
    if datagram.len() + name.len() + value.len() > LINE_MAX {
        return;
    }
    datagram.extend_from_slice(name.as_bytes());
    datagram.push(b'\n');
    datagram.extend_from_slice(&u64::try_from(value.len()).unwrap_or_default().to_le_bytes());
    datagram.extend_from_slice(value.as_bytes());
    datagram.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// A journal of our own, and what it was told.
    fn told(say: impl FnOnce()) -> Vec<BTreeMap<String, String>> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        let ours = UnixDatagram::bind(&path).expect("our end");
        ours.set_nonblocking(true).expect("our end");
        let socket = UnixDatagram::unbound().expect("a socket");
        let mut common = Vec::new();
        put(&mut common, "QUORATE_NODE", "node1");
        let layer = Journal { socket, path, common };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        let mut lines = Vec::new();
        let mut bytes = vec![0; 256 * 1024];
        while let Ok(length) = ours.recv(&mut bytes) {
            lines.push(read(&bytes[..length]));
        }
        lines
    }

    fn read(mut datagram: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while let Some(end) = datagram.iter().position(|byte| *byte == b'\n') {
            let name = String::from_utf8(datagram[..end].to_vec()).expect("a name");
            let length: [u8; 8] = datagram[end + 1..end + 9].try_into().expect("a length");
            let length = usize::try_from(u64::from_le_bytes(length)).expect("it fits");
            let value = &datagram[end + 9..end + 9 + length];
            assert_eq!(datagram[end + 9 + length], b'\n');
            assert!(fields.insert(name, String::from_utf8(value.to_vec()).expect("text")).is_none());
            datagram = &datagram[end + 10 + length..];
        }
        fields
    }

    #[test]
    fn the_text_says_why_and_every_field_stands_alone() {
        let lines = told(|| {
            let span = tracing::info_span!("execution", operation = %"op-1");
            let _inside = span.enter();
            tracing::warn!(coordinator = %"c:7443", why = "no\nroute to it", "session ended");
        });
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(line["MESSAGE"], "session ended coordinator=c:7443 why=\"no\\nroute to it\"");
        assert_eq!(line["PRIORITY"], "4");
        assert_eq!(line["QUORATE_WHY"], "no\nroute to it");
        assert_eq!(line["QUORATE_OPERATION"], "op-1");
        assert_eq!(line["QUORATE_NODE"], "node1");
    }

    #[test]
    fn a_huge_value_is_cut_and_no_field_is_forged() {
        let lines = told(|| tracing::info!(text = %"ä\nPRIORITY=0\n".repeat(10_000), "much"));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["PRIORITY"], "6");
        assert!(lines[0]["QUORATE_TEXT"].len() <= VALUE_MAX && lines[0]["MESSAGE"].len() <= VALUE_MAX);
    }

    #[test]
    fn a_line_fits_into_a_datagram_and_its_message_is_there() {
        let much = "x".repeat(VALUE_MAX * 2);
        let lines = told(|| {
            tracing::info!(
                a = much,
                b = much,
                c = much,
                d = much,
                e = much,
                f = much,
                g = much,
                h = much,
                "much"
            );
        });
        assert!(lines[0]["MESSAGE"].starts_with("much a=\"xxx"), "{:?}", lines[0].keys());
        assert!(lines[0].values().map(String::len).sum::<usize>() <= LINE_MAX);
    }

    #[test]
    fn a_journal_that_went_away_is_no_error_and_is_found_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        let socket = UnixDatagram::unbound().expect("a socket");
        let layer = Journal { socket, path: path.clone(), common: Vec::new() };
        let subscriber = tracing_subscriber::registry().with(layer);
        let ours = tracing::subscriber::with_default(subscriber, || {
            tracing::info!("to nobody");
            let ours = UnixDatagram::bind(&path).expect("our end");
            tracing::info!("to somebody");
            ours
        });
        ours.set_nonblocking(true).expect("our end");
        let mut bytes = [0; 4_096];
        let length = ours.recv(&mut bytes).expect("one line");
        assert_eq!(read(&bytes[..length])["MESSAGE"], "to somebody");
        assert!(ours.recv(&mut bytes).is_err());
    }
}
