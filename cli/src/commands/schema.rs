//! `quorate schema`: what a fleet file can hold.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde_json::{Value, json};

use super::{Ctx, Outcome};
use crate::failure::{Failure, exit};
use crate::files::kinds::{self, Usage};
use crate::files::schema::schema;
use crate::render::table::Columns;
use crate::render::{self, Output};

/// Flags of `schema`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  quorate schema                                    # the kinds of a fleet file\n  quorate schema Service >service.schema.json       # for an editor, or for a check in a pipeline"
)]
pub struct SchemaArgs {
    /// Kind of document; without it, the list of kinds
    #[arg(value_name = "KIND", value_parser = words(), ignore_case = true)]
    kind: Option<String>,
}

/// The words of the table, so that the shell completes them. Any case is taken, and the noun, too.
fn words() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(kinds::KINDS.iter().map(|kind| PossibleValue::new(kind.word).alias(kind.noun)))
}

/// Runs it.
///
/// # Errors
/// When a type is not in the protocol, or stdout cannot be written.
pub fn run(ctx: &Ctx, args: &SchemaArgs) -> Outcome {
    let output = ctx.global.output;
    match &args.kind {
        Some(word) => {
            let same =
                |kind: &&kinds::Kind| [kind.word, kind.noun].iter().any(|own| own.eq_ignore_ascii_case(word));
            let kind = kinds::KINDS.iter().find(same);
            let kind = kind.ok_or_else(|| Failure::usage(format!("unknown kind {word:?}")))?;
            // A schema is JSON; there is no table of it.
            render::structured(if output.is_table() { Output::Json } else { output }, schema(kind)?, None)?;
        }
        None if output.is_table() => render::print(&list())?,
        None => {
            let all: Vec<Value> = kinds::KINDS
                .iter()
                .map(|kind| json!({"name": kind.word, "noun": kind.noun, "command": command(kind)}))
                .collect();
            render::structured(output, json!({"kinds": all, "nextPageToken": ""}), Some("kinds"))?;
        }
    }
    Ok(exit::DONE)
}

const fn command(kind: &kinds::Kind) -> &'static str {
    match kind.usage {
        Usage::Declared { .. } => "quorate apply",
        Usage::Started(command) => command,
    }
}

fn list() -> String {
    let mut columns = Columns::new(&["kind", "used by"]);
    for kind in kinds::KINDS {
        columns.row([kind.word.to_owned(), format!("{} -f FILE", command(kind))]);
    }
    columns.finish("No kinds.")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn a_kind_is_taken_by_its_word_and_its_noun_and_completed() {
        for word in ["Service", "service", "ServiceGroup", "group"] {
            let cli = Cli::try_parse_from(["quorate", "schema", word]).unwrap();
            assert!(matches!(cli.command, Command::Schema(SchemaArgs { kind: Some(kind) }) if kind == word));
        }
        let error = Cli::try_parse_from(["quorate", "schema", "Servce"]).unwrap_err().to_string();
        assert!(error.contains("Service"), "{error}");
        let mut script = Vec::new();
        clap_complete::generate(clap_complete::Shell::Bash, &mut Cli::command(), "quorate", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(kinds::KINDS.iter().all(|kind| script.contains(kind.word)), "the shell completes every kind");
    }
}
