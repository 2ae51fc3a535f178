//! A fleet file as a tree that knows where everything stands.
//!
//! Job: YAML (and with it JSON) to nodes with their places, within bounds; every key that is given twice. Must never: know
//! a kind or a field: what a scalar means depends on the field it is written for, so its text is kept as it stands.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::source::{Complaint, Place, Source, quoted};

/// Deepest nesting; a specification has eight.
const MAX_DEPTH: usize = 32;
/// Most nodes of a file with its aliases written out: more than any file of 1 MiB means by itself.
const MAX_NODES: usize = 600_000;
/// Most bytes of text of a file with its aliases written out.
const MAX_TEXT_BYTES: usize = 8 * 1024 * 1024;
/// Most documents in one file.
const MAX_DOCUMENTS: usize = 1_000;

/// A node and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct At {
    /// What it is.
    pub(super) node: Node,
    /// Where it stands.
    pub(super) place: Place,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// A text; plain when it stands without quotes, and may be a number, a word or nothing.
    Scalar {
        /// The text.
        text: String,
        /// Without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<At>),
    /// A map in the order of the file, every key once.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Where the key stands.
    pub(super) place: Place,
    /// The value.
    pub(super) value: At,
}

impl At {
    /// Nothing was written, or `null` or `~`.
    #[must_use]
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.node, Node::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for messages.
    #[must_use]
    pub(super) fn word(&self) -> &'static str {
        match &self.node {
            Node::Scalar { .. } if self.is_null() => "nothing",
            Node::Scalar { .. } => "a single value",
            Node::List(_) => "a list",
            Node::Map(_) => "a map",
        }
    }

    /// The nearest place that a path names: `probes[1].http.url`, in proto or JSON spelling. What the path names beyond
    /// the text is missing there; the place is then that of what should hold it.
    #[must_use]
    pub(super) fn find(&self, path: &str) -> Place {
        let mut at = self;
        let mut place = self.place;
        for step in path.split('.') {
            let (name, indices) = step.split_once('[').map_or((step, ""), |(name, rest)| (name, rest));
            if !name.is_empty() {
                let Node::Map(entries) = &at.node else { return place };
                let Some(found) = entries.iter().find(|e| e.key == name || e.key == camel(name)) else {
                    return place;
                };
                at = &found.value;
                place = if matches!(at.node, Node::Scalar { .. }) && !at.is_null() {
                    at.place
                } else {
                    found.place
                };
            }
            for index in
                indices.split('[').filter_map(|text| text.trim_end_matches(']').parse::<usize>().ok())
            {
                let Node::List(items) = &at.node else { return place };
                let Some(found) = items.get(index) else { return place };
                at = found;
                place = at.place;
            }
        }
        place
    }
}

impl At {
    /// Where the value of a key stands, wherever the key is in the document.
    #[must_use]
    pub(super) fn key(&self, name: &str) -> Option<Place> {
        match &self.node {
            Node::Scalar { .. } => None,
            Node::List(items) => items.iter().find_map(|item| item.key(name)),
            Node::Map(entries) => {
                let here = entries.iter().any(|entry| entry.key == name || entry.key == camel(name));
                if here {
                    Some(self.find(name))
                } else {
                    entries.iter().find_map(|entry| entry.value.key(name))
                }
            }
        }
    }
}

/// `spec.stop_timeout` as `spec.stopTimeout`.
#[must_use]
pub(super) fn camel(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            text.push(c.to_ascii_uppercase());
        } else {
            text.push(c);
        }
    }
    text
}

/// The documents of a file; those with nothing in them are left out. What is wrong is added to `out`; after an error of
/// syntax nothing that follows is read.
#[must_use]
pub(super) fn read(source: &Source, out: &mut Vec<Complaint>) -> Vec<At> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let events = Parser::new_from_str_with_options(source.text(), options);
    let mut reader =
        Reader { text: source.text(), events, anchors: BTreeMap::new(), nodes: 0, bytes: 0, out };
    let mut documents = Vec::new();
    if let Err(complaint) = reader.documents(&mut documents) {
        out.push(complaint);
    }
    documents
}

struct Reader<'a, 'c> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    /// By the parser's number of the anchor; a node is added when it is complete.
    anchors: BTreeMap<usize, At>,
    nodes: usize,
    bytes: usize,
    out: &'c mut Vec<Complaint>,
}

type Read<T> = Result<T, Complaint>;

impl<'a> Reader<'a, '_> {
    fn documents(&mut self, found: &mut Vec<At>) -> Read<()> {
        while let Some((event, span)) = self.next()? {
            match event {
                Event::DocumentStart(..) => self.anchors.clear(),
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                event => {
                    let document = self.node(event, span, 0)?;
                    if document.is_null() {
                        continue;
                    }
                    if found.len() >= MAX_DOCUMENTS {
                        return Err(Complaint::new(
                            document.place,
                            format!("more than {MAX_DOCUMENTS} documents"),
                        ));
                    }
                    found.push(document);
                }
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Read<Option<(Event<'a>, Span)>> {
        self.events.next().transpose().map_err(|error| syntax(&error, self.text))
    }

    /// The next event of a node that is not at its end.
    fn more(&mut self, span: Span) -> Read<(Event<'a>, Span)> {
        self.next()?.ok_or_else(|| Complaint::new(place(span), "the file ends in the middle of this"))
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Read<At> {
        let place = place(span);
        if depth > MAX_DEPTH {
            return Err(Complaint::new(place, format!("nested deeper than {MAX_DEPTH}")));
        }
        self.count(1, 0, place)?;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = is_text(tag.as_deref(), place)?;
                self.count(0, text.len(), place)?;
                let plain = style == ScalarStyle::Plain && !quoted;
                (Node::Scalar { text: text.into_owned(), plain }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                no_tag(tag.as_deref(), place)?;
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.more(span)?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    items.push(self.node(event, span, depth + 1)?);
                }
                (Node::List(items), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                no_tag(tag.as_deref(), place)?;
                (Node::Map(self.map(span, depth)?), anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, place),
            // Ends and marks; the parser's enum may get others.
            _ => return Err(Complaint::new(place, "a value is expected here")),
        };
        let at = At { node, place };
        if anchor > 0 {
            // The copy counts: a thousand anchors around one another would keep the text a thousand times.
            let (nodes, bytes) = size(&at);
            self.count(nodes, bytes, place)?;
            let _ = self.anchors.insert(anchor, at.clone());
        }
        Ok(at)
    }

    fn map(&mut self, whole: Span, depth: usize) -> Read<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places: BTreeMap<String, Place> = BTreeMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.more(whole)?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            let place = key.place;
            let Node::Scalar { text: key, plain } = key.node else {
                return Err(Complaint::new(place, "a key is a single word"));
            };
            let (event, span) = self.more(span)?;
            let value = self.node(event, span, depth + 1)?;
            if plain && key == "<<" {
                merged.push(value);
            } else if let Some(first) = places.get(&key) {
                let what =
                    format!("the key {} stands here twice; first in line {}", quoted(&key), first.line);
                self.out.push(Complaint::new(place, what));
            } else {
                let _ = places.insert(key.clone(), place);
                entries.push(Entry { key, place, value });
            }
        }
        for value in merged {
            merge(value, &mut entries, &mut places)?;
        }
        Ok(entries)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Read<At> {
        let Some(at) = self.anchors.get(&anchor).cloned() else {
            return Err(Complaint::new(place, "this alias stands inside of what it names"));
        };
        let (nodes, bytes) = size(&at);
        self.count(nodes, bytes, place)?;
        Ok(at)
    }

    fn count(&mut self, nodes: usize, bytes: usize, place: Place) -> Read<()> {
        self.nodes += nodes;
        self.bytes += bytes;
        if self.nodes > MAX_NODES || self.bytes > MAX_TEXT_BYTES {
            return Err(Complaint::new(place, "with its aliases written out the file is too large"));
        }
        Ok(())
    }
}

/// Takes the entries of `<<` that the map does not have itself.
fn merge(value: At, entries: &mut Vec<Entry>, places: &mut BTreeMap<String, Place>) -> Read<()> {
    match value.node {
        Node::Map(taken) => {
            for entry in taken {
                if !places.contains_key(&entry.key) {
                    let _ = places.insert(entry.key.clone(), entry.place);
                    entries.push(entry);
                }
            }
            Ok(())
        }
        Node::List(items) => items.into_iter().try_for_each(|item| match item.node {
            Node::Map(_) => merge(item, entries, places),
            Node::Scalar { .. } | Node::List(_) => Err(Complaint::new(item.place, "`<<` takes maps only")),
        }),
        Node::Scalar { .. } => Err(Complaint::new(value.place, "`<<` takes maps only")),
    }
}

/// Nodes and bytes of text.
fn size(at: &At) -> (usize, usize) {
    let sum = |(n, b): (usize, usize), (m, c): (usize, usize)| (n + m, b + c);
    match &at.node {
        Node::Scalar { text, .. } => (1, text.len()),
        Node::List(items) => items.iter().map(size).fold((1, 0), sum),
        Node::Map(entries) => entries.iter().map(|e| sum((1, e.key.len()), size(&e.value))).fold((1, 0), sum),
    }
}

/// Whether a tag makes a scalar a text; no other tag is read.
fn is_text(tag: Option<&Tag>, place: Place) -> Read<bool> {
    match tag {
        Some(tag) if tag.to_string() == "tag:yaml.org,2002:str" => Ok(true),
        tag => no_tag(tag, place).map(|()| false),
    }
}

fn no_tag(tag: Option<&Tag>, place: Place) -> Read<()> {
    match tag {
        Some(_) => Err(Complaint::new(place, "a tag (`!…`) is not read here; leave it out")),
        None => Ok(()),
    }
}

fn place(span: Span) -> Place {
    let (start, end) = (span.start, span.end);
    let width = if start.line() == end.line() { end.col().saturating_sub(start.col()).max(1) } else { 1 };
    Place { line: start.line(), column: start.col() + 1, width }
}

fn syntax(error: &ScanError, text: &str) -> Complaint {
    let at = error.marker();
    let place = Place { line: at.line(), column: at.col() + 1, width: 1 };
    let what = error.info();
    // The parser tells where the value before it begins; the tab is what is wrong.
    if what.contains("tab")
        && let Some(found) = indented_by_tab(text, place.line)
    {
        return Complaint::new(found, "a tab in the indentation").hint("YAML is indented with spaces");
    }
    // Where there is nothing more, the end of what there is shows what is not ended.
    let last = text.trim_end();
    let lines = last.split('\n').count();
    if place.line > lines {
        let column = last.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        return Complaint::new(Place { line: lines, column, width: 1 }, what);
    }
    Complaint::new(place, what)
}

/// The first tab that stands before anything else in its line, from a line on.
fn indented_by_tab(text: &str, from: usize) -> Option<Place> {
    text.split('\n').enumerate().skip(from.saturating_sub(1)).find_map(|(index, line)| {
        let column = line.chars().position(|c| c != ' ').filter(|at| line.chars().nth(*at) == Some('\t'))?;
        Some(Place { line: index + 1, column: column + 1, width: 1 })
    })
}
