//! Expressions over probe readings: CEL, cut down to what always ends.
//!
//! Job: read an expression, say where it is wrong, say which readings it needs, evaluate it. Must never: loop (every macro but
//! `has` is refused, so that the work is bounded by the text), take a name for granted, or take an error for `true`.
//!
//! What stays of CEL: literals and lists, `probes.NAME.FIELD` (or `probes["NAME"].FIELD`), fields and indexes of a body,
//! arithmetic, comparisons, `in`, `&&`, `||`, `!`, `? :`, `has`, `size`, `contains`, `startsWith`, `endsWith`, `double`, `int`.
//! As in all CEL, `true || error` is true and `false && error` is false.

use std::collections::BTreeSet;
use std::fmt;

use cel::common::ast::{CallExpr, Expr, IdedExpr, ListExpr, LiteralValue, SelectExpr, operators};
use cel::parser::PrattParser;

mod evaluate;
#[cfg(test)]
mod tests;

pub use crate::wire::limits::EXPRESSION_MAX_BYTES;
pub use evaluate::Seen;

/// Deepest nesting, of the text and of what it means: what recurses over it uses a few KiB of stack a level.
const DEPTH_MAX: u16 = 24;
/// Most operations, names and literals.
const NODES_MAX: usize = 160;
/// Most additions: of all operations only they make values that are larger than what went in.
const ADDITIONS_MAX: usize = 16;
/// The one name that is known.
const ROOT: &str = "probes";
/// Everything that may be called by its name.
const FUNCTIONS: &[&str] = &["size", "contains", "startsWith", "endsWith", "double", "int"];
/// Everything that is called by its sign.
const SIGNS: &[&str] = &[
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
];

/// What may be asked of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Whether its newest reading passed.
    Pass,
    /// How old that reading is.
    AgeMs,
    /// What a metric probe measured.
    Value,
    /// What an HTTP server answered.
    Status,
    /// The JSON document it answered.
    Body,
}

impl Field {
    const ALL: [Self; 5] = [Self::Pass, Self::AgeMs, Self::Value, Self::Status, Self::Body];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::AgeMs => "age_ms",
            Self::Value => "value",
            Self::Status => "status",
            Self::Body => "body",
        }
    }
}

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub why: String,
    /// In which byte it shows, from 0; none when it is the whole.
    pub at: Option<usize>,
}

impl Wrong {
    fn new(why: impl Into<String>, at: Option<usize>) -> Self {
        Self { why: why.into(), at }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{} (at {})", self.why, at.saturating_add(1)),
            None => f.write_str(&self.why),
        }
    }
}

impl std::error::Error for Wrong {}

/// An expression that was read and checked.
#[derive(Clone, Debug)]
pub struct Expression {
    tree: IdedExpr,
    uses: BTreeSet<(String, Field)>,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it and where.
    pub fn parse(source: &str) -> Result<Self, Wrong> {
        if source.len() > EXPRESSION_MAX_BYTES {
            return Err(Wrong::new(format!("it is longer than {EXPRESSION_MAX_BYTES} bytes"), None));
        }
        if let Some(at) = source.bytes().position(|b| !(b' '..=b'~').contains(&b)) {
            return Err(Wrong::new("only plain characters on one line; write others as \\u00fc", Some(at)));
        }
        let parser = PrattParser::new().max_recursion_depth(DEPTH_MAX).max_expression_node_count(NODES_MAX);
        let tree = parser.parse(source).map_err(|errors| {
            let first = errors.errors.into_iter().next();
            first.map_or_else(
                || Wrong::new("it cannot be read", None),
                |e| Wrong::new(e.msg, usize::try_from(e.pos.1).ok().and_then(|column| column.checked_sub(1))),
            )
        })?;
        let mut check = Check { source, uses: BTreeSet::new(), nodes: 0, additions: 0 };
        check.expr(&tree, 0)?;
        let uses = check.uses;
        if uses.is_empty() {
            return Err(Wrong::new("it looks at no probe", None));
        }
        Ok(Self { tree, uses })
    }

    /// What it needs to know: names of probes, and what of them.
    #[must_use]
    pub const fn uses(&self) -> &BTreeSet<(String, Field)> {
        &self.uses
    }
}

/// Where a word stands in a source, for the caret: the first place where it stands by itself.
#[must_use]
pub fn place_of(source: &str, word: &str) -> Option<usize> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = source.as_bytes();
    source.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = at.checked_sub(1).and_then(|i| bytes.get(i));
        let after = bytes.get(at.saturating_add(word.len()));
        !before.is_some_and(|b| inside(*b)) && !after.is_some_and(|b| inside(*b))
    })
}

struct Check<'a> {
    source: &'a str,
    uses: BTreeSet<(String, Field)>,
    nodes: usize,
    additions: usize,
}

impl Check<'_> {
    fn wrong<T>(&self, why: impl Into<String>, word: &str) -> Result<T, Wrong> {
        Err(Wrong::new(why, place_of(self.source, word)))
    }

    fn expr(&mut self, expr: &IdedExpr, depth: u16) -> Result<(), Wrong> {
        self.nodes = self.nodes.saturating_add(1);
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            return Err(Wrong::new("it is nested too deep, or has too many parts", None));
        }
        let depth = depth.saturating_add(1);
        match &expr.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) if name == ROOT => self
                .wrong("a probe is asked for as probes.NAME.pass, .age_ms, .value, .status or .body", ROOT),
            Expr::Ident(name) => self.wrong(format!("{name} is not known; there is only probes"), name),
            Expr::Select(select) => self.select(select, depth),
            Expr::Call(call) => self.call(call, depth),
            Expr::List(ListExpr { elements, .. }) => elements.iter().try_for_each(|e| self.expr(e, depth)),
            Expr::Comprehension(_) => {
                Err(Wrong::new("macros that loop (all, exists, map, filter) are not allowed", None))
            }
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                Err(Wrong::new("only numbers, texts and lists are written out", None))
            }
        }
    }

    fn select(&mut self, select: &SelectExpr, depth: u16) -> Result<(), Wrong> {
        let Some(probe) = probe_of(&select.operand) else { return self.expr(&select.operand, depth) };
        let Some(field) = Field::ALL.into_iter().find(|f| f.as_str() == select.field) else {
            let why = "of a probe there is pass, age_ms, value, status and body";
            return self.wrong(why, &select.field);
        };
        self.uses.insert((probe.to_owned(), field));
        Ok(())
    }

    fn call(&mut self, call: &CallExpr, depth: u16) -> Result<(), Wrong> {
        let name = call.func_name.as_str();
        if !SIGNS.contains(&name) && !FUNCTIONS.contains(&name) {
            return self
                .wrong(format!("{name} is not among what may be used: {}", FUNCTIONS.join(", ")), name);
        }
        if name == operators::ADD {
            self.additions = self.additions.saturating_add(1);
            if self.additions > ADDITIONS_MAX {
                return Err(Wrong::new(format!("more than {ADDITIONS_MAX} additions"), None));
            }
        }
        call.target.iter().try_for_each(|target| self.expr(target, depth))?;
        call.args.iter().try_for_each(|argument| self.expr(argument, depth))
    }
}

/// The probe that `probes.NAME` or `probes["NAME"]` names.
fn probe_of(expr: &IdedExpr) -> Option<&str> {
    let is_root = |expr: &IdedExpr| matches!(&expr.expr, Expr::Ident(name) if name == ROOT);
    match &expr.expr {
        Expr::Select(SelectExpr { operand, field, test: false }) if is_root(operand) => Some(field),
        Expr::Call(CallExpr { func_name, target: None, args }) if func_name == operators::INDEX => {
            match args.as_slice() {
                [root, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] if is_root(root) => {
                    Some(name.inner())
                }
                _ => None,
            }
        }
        Expr::Select(_)
        | Expr::Call(_)
        | Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => None,
    }
}
