//! Fleet files: YAML or JSON, one or several documents with `kind: …`.
//!
//! Job: read files into documents that are known to fit their kind, and show every thing that does not with its file, line
//! and column; compare documents with what the API has. Must never: send anything, or let a part of a file through when
//! another part is wrong.
//!
//! `source` holds a text and draws places, `tree` reads YAML with places, `shape` makes messages of trees, `kinds` is the
//! table of what a file can hold, `canon` shows messages as YAML and their difference, `schema` describes kinds to editors.

pub mod canon;
pub mod kinds;
pub mod schema;
mod shape;
mod source;
#[cfg(test)]
mod tests;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use quorate_common::wire::Invalid;
use quorate_proto::v1;

use self::kinds::{Kind, Usage};
use self::source::{Complaint, Place, Source, Told, quoted};
use self::tree::{At, Node};
use crate::failure::{Failure, exit};
use crate::render::json;

/// A document that fits its kind.
#[derive(Clone)]
pub struct Document {
    /// Its kind.
    pub kind: &'static Kind,
    /// Its name; empty where the kind has none.
    pub name: String,
    bytes: Vec<u8>,
    tree: At,
    origin: Origin,
}

/// Where a document comes from.
#[derive(Clone)]
struct Origin {
    source: Arc<Source>,
    /// Counted from 1; `None` when the file has no other.
    number: Option<usize>,
}

impl Origin {
    fn show(&self, kind: &str, complaint: &Complaint) -> String {
        let Some(number) = self.number else { return self.source.show(complaint) };
        let of = if kind.is_empty() { String::new() } else { format!(" ({kind})") };
        let what = format!("document {number}{of}: {}", complaint.what);
        self.source.show(&Complaint { what, ..complaint.clone() })
    }
}

impl Document {
    /// What it declares, for people: `service ledger`.
    #[must_use]
    pub fn title(&self) -> String {
        if self.name.is_empty() {
            self.kind.noun.to_owned()
        } else {
            format!("{} {}", self.kind.noun, self.name)
        }
    }

    /// Its specification.
    ///
    /// # Errors
    /// When it is asked for as a message of another kind.
    pub fn spec<M: Message + Default>(&self) -> Result<M, Failure> {
        M::decode(self.bytes.as_slice())
            .map_err(|error| Failure::failed(format!("{}: {error}", self.title())))
    }

    /// Its specification as the coordinators would store it.
    ///
    /// # Errors
    /// Never, once it was read; the conversion was tried then.
    pub fn canonical(&self) -> Result<Vec<u8>, Failure> {
        (self.kind.canon)(&self.bytes).map_err(|invalid| Failure::usage(self.show(&self.complaint(&invalid))))
    }

    /// `FILE:LINE`.
    #[must_use]
    pub fn at(&self) -> String {
        format!("{}:{}", self.origin.source.name(), self.tree.place.line)
    }

    /// The file's name.
    #[must_use]
    pub fn file(&self) -> &str {
        self.origin.source.name()
    }

    /// A coordinator's refusal, with the place in the file: of the field that it names, else of the document.
    #[must_use]
    pub fn placed(&self, failure: Failure) -> Failure {
        let named = failure.what.strip_prefix("bad_field:").and_then(|text| text.split_once(": "));
        let own = named.and_then(|(field, why)| {
            let field = ["spec", "work"].iter().find_map(|frame| field.strip_prefix(*frame))?;
            Some(Invalid::new(field.trim_start_matches('.'), why))
        });
        // The state's own refusals begin with the field's name.
        let begun = || {
            let (key, why) = failure.what.split_once(": ")?;
            Some(Complaint::new(self.tree.key(key)?, format!("{}: {why}", tree::camel(key))))
        };
        match own.map(|invalid| self.complaint(&invalid)).or_else(begun) {
            Some(complaint) => Failure { what: self.show(&complaint), ..failure },
            None => {
                let mut failure = failure;
                failure.why.push((self.title(), self.at()));
                failure
            }
        }
    }

    fn complaint(&self, invalid: &Invalid) -> Complaint {
        let Invalid { reason: _, field, why, place } = invalid;
        let mut what = if field.is_empty() { why.clone() } else { format!("{}: {why}", tree::camel(field)) };
        let whole = self.tree.find(field);
        // The caret is under the value; where in it, for a value that is a text of its own kind.
        let Some((line, at)) = place.as_deref() else { return Complaint::new(whole, what) };
        let inside = self.origin.source.inside(whole, line, *at);
        if inside.is_none() {
            what = format!("{what}, at byte {at} of {line:?}");
        }
        Complaint::new(inside.unwrap_or(whole), what)
    }

    fn show(&self, complaint: &Complaint) -> String {
        self.origin.show(self.kind.word, complaint)
    }

    /// The failure for a document that cannot be used here.
    #[must_use]
    fn unfit(&self, what: impl Into<String>, hint: impl Into<String>) -> String {
        self.show(&Complaint::new(self.tree.find("kind"), what).hint(hint))
    }
}

/// Every document of the files, each of which fits its kind.
///
/// # Errors
/// Exit code 2 with everything that is wrong.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Document>, Failure> {
    if paths.iter().filter(|path| path.as_path() == Path::new("-")).count() > 1 {
        return Err(Failure::usage("standard input can be read only once"));
    }
    let (mut documents, mut told) = (Vec::new(), Told::default());
    for path in source::files(paths)? {
        match Source::read(&path) {
            Ok(source) => from_source(source, &mut documents, &mut told),
            Err(failure) => told.add(|| failure.what),
        }
    }
    twice(&documents, &mut told);
    told.end().map(|()| documents)
}

/// The documents of files that declare, in the order in which they are applied; of the kind `only`, when that is said.
///
/// # Errors
/// Exit code 2 with everything that is wrong.
pub fn declared(paths: &[PathBuf], only: Option<&str>) -> Result<Vec<Document>, Failure> {
    let mut documents = load(paths)?;
    let mut told = Told::default();
    for document in &documents {
        match (&document.kind.usage, only) {
            (Usage::Started(command), _) => told.add(|| {
                let what = format!("a {} is started, not declared", document.kind.word);
                document.unfit(what, format!("{command} -f {}", document.file()))
            }),
            (Usage::Declared { .. }, Some(only)) if only != document.kind.word => told.add(|| {
                let what = format!("a {} does not belong here, only a {only}", document.kind.word);
                document.unfit(what, "quorate apply takes every kind")
            }),
            (Usage::Declared { .. }, _) => {}
        }
    }
    told.end()?;
    let order = |document: &Document| kinds::KINDS.iter().position(|kind| kind.word == document.kind.word);
    documents.sort_by_key(order);
    Ok(documents)
}

/// The one `kind: Rollout` document of a file.
///
/// # Errors
/// Exit code 2 for an invalid file.
pub fn rollout(path: &Path) -> Result<(v1::WorkSpec, Document), Failure> {
    let mut documents = load(&[path.to_path_buf()])?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) if document.kind.word == "Rollout" => Ok((document.spec()?, document)),
        _ => {
            Err(Failure::usage(format!("{}: one document with `kind: Rollout` is expected", path.display()))
                .with_hint("kind: Rollout\nrolling: { group: ledger, kind: restart }"))
        }
    }
}

/// Reads one file's documents; what is wrong is told.
fn from_source(source: Source, documents: &mut Vec<Document>, told: &mut Told) {
    let mut complaints = Vec::new();
    let trees = tree::read(&source, &mut complaints);
    let several = trees.len() > 1;
    let source = Arc::new(source);
    complaints.iter().for_each(|complaint| told.add(|| source.show(complaint)));
    if trees.is_empty() && complaints.is_empty() {
        let complaint = Complaint::new(Place::START, "there is no document").hint("it begins with `kind: …`");
        told.add(|| source.show(&complaint));
    }
    for (index, tree) in trees.into_iter().enumerate() {
        let origin = Origin { source: Arc::clone(&source), number: several.then_some(index + 1) };
        documents.extend(document(tree, origin, told));
    }
}

fn document(tree: At, origin: Origin, told: &mut Told) -> Option<Document> {
    let kind = kind_of(&tree).map_err(|complaint| told.add(|| origin.show("", &complaint))).ok()?;
    let mut body = tree.clone();
    if let Node::Map(entries) = &mut body.node {
        entries.retain(|entry| entry.key != "kind");
    }
    let mut complaints = Vec::new();
    let descriptor = json::descriptor(kind.message).map_err(|failure| told.add(|| failure.what)).ok()?;
    let message = shape::message(&descriptor, &body, &mut complaints);
    if !complaints.is_empty() {
        complaints.iter().for_each(|complaint| told.add(|| origin.show(kind.word, complaint)));
        return None;
    }
    let name = message.get_field_by_name("name").and_then(|name| name.as_str().map(str::to_owned));
    let bytes = message.encode_to_vec();
    let document = Document { kind, name: name.unwrap_or_default(), bytes, tree, origin };
    match (kind.canon)(&document.bytes) {
        Ok(_) => Some(document),
        Err(invalid) => {
            told.add(|| document.show(&document.complaint(&invalid)));
            None
        }
    }
}

fn kind_of(tree: &At) -> Result<&'static Kind, Complaint> {
    let known = || format!("known are {}", kinds::words().join(", "));
    let Node::Map(entries) = &tree.node else {
        let what = format!("{} where a document is expected", tree.word());
        return Err(Complaint::new(tree.place, what).hint("a document is a map that begins with `kind: …`"));
    };
    let Some(entry) = entries.iter().find(|entry| entry.key == "kind") else {
        return Err(Complaint::new(tree.place, "the document has no `kind`").hint(known()));
    };
    let place = tree.find("kind");
    match &entry.value.node {
        Node::Scalar { text, .. } if !entry.value.is_null() => kinds::kind(text).ok_or_else(|| {
            Complaint::new(place, format!("unknown kind {}", quoted(text)))
                .hint(shape::meant(text, &kinds::words()))
        }),
        Node::Scalar { .. } | Node::List(_) | Node::Map(_) => {
            Err(Complaint::new(place, "`kind` is no word").hint(known()))
        }
    }
}

/// Two declarations of one name: the later would silently win.
fn twice(documents: &[Document], told: &mut Told) {
    let mut seen: std::collections::BTreeMap<(&str, &str), &Document> = std::collections::BTreeMap::new();
    for document in documents.iter().filter(|document| !document.name.is_empty()) {
        match seen.get(&(document.kind.word, document.name.as_str())) {
            Some(first) => {
                let what = format!("the {} is declared twice; first in {}", document.title(), first.at());
                told.add(|| document.show(&Complaint::new(document.tree.find("name"), what)));
            }
            None => {
                let _ = seen.insert((document.kind.word, document.name.as_str()), document);
            }
        }
    }
}

/// The exit code when something failed after a part was applied: "refused" would say that nothing was changed.
#[must_use]
pub const fn after_changes(code: u8) -> u8 {
    match code {
        exit::USAGE | exit::REFUSED | exit::NOT_FOUND => exit::FAILED,
        code => code,
    }
}
