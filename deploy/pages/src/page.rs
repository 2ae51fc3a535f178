//! One manual page of one command.

use std::io;

use clap::Command;
use clap_mangen::Man;

/// What a command says after its help is in blocks with an empty line between. A block whose first line ends in a colon becomes a
/// section of that name, anything else a note.
struct Block<'a> {
    heading: &'a str,
    lines: Vec<&'a str>,
}

/// A finished page.
pub(crate) struct Page {
    /// `quorate-node-list.1`.
    pub(crate) file: String,
    /// roff.
    pub(crate) text: Vec<u8>,
}

/// What all pages of a program have in common.
pub(crate) struct Program {
    /// The section: 1 for people, 8 for administrators.
    pub(crate) section: &'static str,
    /// Date of the pages, `YYYY-MM-DD`.
    pub(crate) date: String,
    /// Exit codes of every command of it; a command with a block of its own has that instead.
    pub(crate) exit_codes: Vec<(u8, &'static str)>,
    /// Files of every command of it, likewise.
    pub(crate) files: Vec<(&'static str, &'static str)>,
    /// Pages of the other programs, each with its section.
    pub(crate) see_also: Vec<(&'static str, &'static str)>,
}

/// The page of a command and those of all below it. `command` has been built.
pub(crate) fn pages(program: &Program, command: &Command, parent: Option<&str>) -> io::Result<Vec<Page>> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut found = vec![Page {
        file: format!("{name}.{}", program.section),
        text: page(program, command, &name, parent)?,
    }];
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        found.extend(pages(program, below, Some(&name))?);
    }
    Ok(found)
}

fn page(program: &Program, command: &Command, name: &str, parent: Option<&str>) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .section(program.section)
        .date(&program.date)
        .source(concat!("quorate ", env!("CARGO_PKG_VERSION")))
        .manual("Quorate");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.get_subcommands().any(|c| !c.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let blocks = blocks(&after);
    let has = |heading: &str| blocks.iter().any(|block| block.heading == heading);
    if !has("Exit codes") && !program.exit_codes.is_empty() {
        let codes: Vec<_> = program.exit_codes.iter().map(|(code, what)| (code.to_string(), *what)).collect();
        terms(&mut text, "Exit codes", codes.iter().map(|(code, what)| (code.as_str(), *what)));
    }
    if !has("Files") && !program.files.is_empty() {
        terms(&mut text, "Files", program.files.iter().copied());
    }
    for block in &blocks {
        section(&mut text, block);
    }
    see_also(&mut text, program, command, name, parent);
    Ok(text)
}

fn blocks(after_help: &str) -> Vec<Block<'_>> {
    // All exit codes in one line, as the short help of `quorate` has them: the page has a table.
    let texts = after_help.split("\n\n").filter(|text| !text.starts_with("Exit codes: "));
    texts.filter_map(block).collect()
}

fn block(text: &str) -> Option<Block<'_>> {
    let mut lines = text.lines();
    let first = lines.next()?;
    Some(match first.strip_suffix(':') {
        Some(heading) => Block { heading, lines: lines.collect() },
        None => Block { heading: "Notes", lines: text.lines().collect() },
    })
}

fn section(text: &mut Vec<u8>, block: &Block<'_>) {
    let pairs: Option<Vec<(&str, &str)>> =
        block.lines.iter().map(|line| line.trim().split_once("  ").map(|(a, b)| (a, b.trim()))).collect();
    match (block.heading, pairs) {
        ("Examples", _) => {
            heading(text, "Examples");
            line(text, ".nf");
            block.lines.iter().for_each(|example| line(text, &escaped(example.trim())));
            line(text, ".fi");
        }
        (name, Some(pairs)) => terms(text, name, pairs.into_iter()),
        (name, None) => {
            heading(text, name);
            block.lines.iter().for_each(|note| line(text, &escaped(note.trim())));
        }
    }
}

fn terms<'a>(text: &mut Vec<u8>, name: &str, terms: impl Iterator<Item = (&'a str, &'a str)>) {
    heading(text, name);
    for (term, meaning) in terms {
        line(text, ".TP");
        line(text, &format!("\\fB{}\\fR", escaped(term)));
        line(text, &escaped(meaning));
    }
}

fn see_also(text: &mut Vec<u8>, program: &Program, command: &Command, name: &str, parent: Option<&str>) {
    let own = parent.map(|parent| (parent.to_owned(), program.section)).into_iter();
    let below = command.get_subcommands().filter(|c| !c.is_hide_set());
    let below = below.map(|c| (format!("{name}-{}", c.get_name()), program.section));
    let others = program.see_also.iter().map(|(other, section)| ((*other).to_owned(), *section));
    let all: Vec<String> = own
        .chain(below)
        .chain(others)
        .map(|(page, section)| format!("\\fB{}\\fR({section})", escaped(&page)))
        .collect();
    heading(text, "See also");
    line(text, &all.join(",\n"));
}

fn heading(text: &mut Vec<u8>, name: &str) {
    // man-pages(7) calls it so.
    let name = if name == "Exit codes" { "EXIT STATUS".to_owned() } else { name.to_uppercase() };
    line(text, &format!(".SH \"{name}\""));
}

fn line(text: &mut Vec<u8>, line: &str) {
    text.extend(line.as_bytes());
    text.push(b'\n');
}

/// Text as roff shows it: a hyphen that can be copied into a shell, no escapes, no request at the start of a line.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('…', "...");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_after_the_help_becomes_sections() {
        let after = "Exit codes:\n  0   fine\n  74  a -disk-\n\nExamples:\n  x --y 'z'\n  .hidden\n\nFor more: x y\n\nExit codes: 7 odd";
        let command = Command::new("x").about("does x").after_help(after);
        let program = Program {
            section: "8",
            date: "2026-01-02".to_owned(),
            exit_codes: vec![(9, "never")],
            files: vec![("/etc/x", "its file")],
            see_also: vec![("y", "1")],
        };
        let found = pages(&program, &command, None).unwrap();
        assert_eq!((found.len(), found[0].file.as_str()), (1, "x.8"));
        let text = String::from_utf8(found[0].text.clone()).unwrap();
        for wanted in [
            ".TH X 8 2026-01-02",
            "x \\- does x",
            ".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\nfine\n.TP\n\\fB74\\fR\na \\-disk\\-\n",
            ".SH \"FILES\"\n.TP\n\\fB/etc/x\\fR\nits file\n",
            ".SH \"EXAMPLES\"\n.nf\nx \\-\\-y \\(aqz\\(aq\n\\&.hidden\n.fi\n",
            ".SH \"NOTES\"\nFor more: x y\n",
            ".SH \"SEE ALSO\"\n\\fBy\\fR(1)\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
        assert!(!text.contains("never"), "its own exit codes stand for those of the program");
        assert!(!text.contains("odd"), "exit codes in one line are those of the program");
    }
}
