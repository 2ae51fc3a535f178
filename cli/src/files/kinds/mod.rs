//! What a fleet file can hold: one row per kind, one file per row.
//!
//! Job: say for each kind which message it is, what its canonical form is, and how the API gives and takes it. Must never:
//! read a file or show anything. `apply`, `diff`, `schema`, the messages about unknown kinds and the completion of the
//! shell all come from this table: a new kind is one file and one row (and what its conversion refuses to miss, in
//! `schema::REQUIRED`).

mod freeze;
mod group;
mod policy;
mod rollout;
mod schedule;
mod service;
mod window;

use std::future::Future;
use std::pin::Pin;

use prost::Message;
use quorate_common::wire::Invalid;
use quorate_proto::v1;

use super::Document;
use crate::client::Client;
use crate::failure::{Failure, exit};

/// Every kind, in the order in which a file's documents are applied: what is named by others comes first.
pub const KINDS: &[Kind] =
    &[service::KIND, group::KIND, freeze::KIND, window::KIND, policy::KIND, schedule::KIND, rollout::KIND];

/// One kind of document.
pub struct Kind {
    /// The word after `kind:`.
    pub word: &'static str,
    /// Its noun on the command line and in messages.
    pub noun: &'static str,
    /// Full name of its message.
    pub message: &'static str,
    /// Its encoded message read and written by the wire conversion: the same checks as on a coordinator, and defaults
    /// filled in.
    pub canon: fn(&[u8]) -> Result<Vec<u8>, Invalid>,
    /// What is done with it.
    pub usage: Usage,
}

/// What is done with a document.
pub enum Usage {
    /// It is declared, and stays.
    Declared {
        /// The stored specification by its name; `None` when there is none.
        get: Get,
        /// Declares it; whether that changed anything.
        apply: Apply,
    },
    /// It is started once, by this command with `-f FILE`.
    Started(&'static str),
}

/// The future of a call.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;
/// Asks for the stored specification of a name.
pub type Get = for<'a> fn(client: &'a Client, name: String, consistency: i32) -> Call<'a, Option<Vec<u8>>>;
/// Declares a document.
pub type Apply = for<'a> fn(client: &'a Client, turn: Turn<'a>) -> Call<'a, bool>;

/// One document's turn.
pub struct Turn<'a> {
    /// The document.
    pub document: &'a Document,
    /// Everything that is declared with it, itself included.
    pub all: &'a [Document],
    /// The frame of the request.
    pub options: v1::ChangeOptions,
}

/// The kind of a word. Exactly one spelling is known, as of every key.
#[must_use]
pub fn kind(word: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.word == word)
}

/// The words of all kinds.
#[must_use]
pub fn words() -> Vec<String> {
    KINDS.iter().map(|kind| kind.word.to_owned()).collect()
}

/// A specification from its bytes.
fn decoded<M: Message + Default>(bytes: &[u8]) -> Result<M, Invalid> {
    M::decode(bytes).map_err(|error| Invalid::new("", error.to_string()))
}

/// An answer in which "no such thing" is an answer, too.
fn found<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if failure.code == exit::NOT_FOUND => Ok(None),
        Err(failure) => Err(failure),
    }
}
