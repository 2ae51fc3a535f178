//! Reads and marks the server lines of a file of nginx's. Pure. Everything but the word `down` stays byte for byte.

use std::ops::Range;

/// One `server ADDRESS …;` line of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The address as it is written.
    pub(super) address: String,
    /// It gets no connections.
    pub(super) down: bool,
    /// It gets connections only when no other serves.
    pub(super) backup: bool,
    /// Where its parameters stand in the file, without the semicolon.
    parameters: Range<usize>,
}

/// The servers of a pool: those of `upstream POOL { … }`, or of the whole file when it holds no such block (one that is
/// included inside of it).
pub(super) fn servers(text: &str, pool: &str) -> Result<Vec<Line>, String> {
    let blocks = text.lines().any(|line| opens(line).is_some());
    let mut inside = !blocks;
    let mut found = Vec::new();
    let mut at = 0_usize;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let begins = at;
        at = at.saturating_add(line.len());
        let code = line.split('#').next().unwrap_or_default();
        if let Some(name) = opens(code) {
            inside = name == pool;
        } else if code.trim() == "}" {
            inside = !blocks;
        } else if inside && code.split_whitespace().next() == Some("server") {
            let line = server(code, begins)
                .ok_or_else(|| format!("line {} is not one server on one line", number.saturating_add(1)))?;
            found.push(line);
        } else if inside && code.contains("server ") {
            return Err(format!("line {} holds a server beside something else", number.saturating_add(1)));
        }
    }
    if blocks && !text.lines().any(|line| opens(line) == Some(pool)) {
        return Err(format!("the file has no upstream {pool}"));
    }
    Ok(found)
}

/// The name of the block that a line opens.
fn opens(line: &str) -> Option<&str> {
    let rest = line.trim().strip_prefix("upstream")?.strip_suffix('{')?;
    rest.starts_with(char::is_whitespace).then(|| rest.trim())
}

fn server(code: &str, begins: usize) -> Option<Line> {
    let body = code.trim_end().strip_suffix(';')?;
    if body.contains([';', '{', '}']) {
        return None;
    }
    let mut words = body.split_whitespace().skip(1);
    let address = words.next()?;
    let after = body.find(address)?.saturating_add(address.len());
    let parameters: Vec<&str> = words.collect();
    Some(Line {
        address: address.to_owned(),
        down: parameters.contains(&"down"),
        backup: parameters.contains(&"backup"),
        parameters: begins.saturating_add(after)..begins.saturating_add(body.len()),
    })
}

/// The one line of a server.
pub(super) fn own<'l>(lines: &'l [Line], server: &str) -> Result<&'l Line, String> {
    let mut all = lines.iter().filter(|line| line.address == server);
    match (all.next(), all.next()) {
        (Some(line), None) => Ok(line),
        (None, _) => Err(format!("the file has no line for {server}")),
        (Some(_), Some(_)) => Err(format!("the file has more than one line for {server}")),
    }
}

/// The file with a server's line marked `down`, or no longer; none when it is so already.
pub(super) fn marked(text: &str, pool: &str, server: &str, down: bool) -> Result<Option<String>, String> {
    let lines = servers(text, pool)?;
    let line = own(&lines, server)?;
    if line.down == down {
        return Ok(None);
    }
    let (before, rest) = text.split_at_checked(line.parameters.start).ok_or("the file changed")?;
    let length = line.parameters.len();
    let (parameters, after) = rest.split_at_checked(length).ok_or("the file changed")?;
    let parameters = if down {
        let (words, blank) = parameters.split_at(parameters.trim_end().len());
        format!("{words} down{blank}")
    } else {
        without(parameters)
    };
    Ok(Some(format!("{before}{parameters}{after}")))
}

/// Parameters without the word `down` and the blanks before it.
fn without(parameters: &str) -> String {
    let mut kept = String::with_capacity(parameters.len());
    let mut rest = parameters;
    while let Some(word) = rest.split_whitespace().next() {
        let Some(at) = rest.find(word) else { break };
        let end = at.saturating_add(word.len());
        if word != "down" {
            kept.push_str(rest.get(..end).unwrap_or_default());
        }
        rest = rest.get(end..).unwrap_or_default();
    }
    kept.push_str(rest);
    kept
}
