//! The administrator's guides as something to run: their fenced blocks, in order, each on the hosts that it names.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use super::Lab;

/// What opens a block that is typed as it stands, on the hosts that it names.
const FENCE: &str = "```sh host=";
/// What opens a block that a scenario types.
const SHOWN: &str = "```sh";

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it is run; nowhere by itself when none is named.
    pub hosts: Vec<String>,
    /// Line of the guide that it begins at.
    pub line: usize,
    /// What is typed.
    pub script: String,
}

/// One guide.
#[derive(Clone, Debug)]
pub struct Guide {
    /// Its file, for messages.
    name: String,
    /// What it says to type.
    pub blocks: Vec<Block>,
}

impl Guide {
    /// Reads a guide of the tree.
    ///
    /// # Errors
    /// When it can not be read, names no host, or a block does not end.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let blocks = blocks(&text).with_context(|| name.clone())?;
        ensure!(!blocks.is_empty(), "{name} has nothing to type");
        Ok(Self { name, blocks })
    }

    /// How many commands it gives to a host.
    #[must_use]
    pub fn count(&self, host: &str) -> usize {
        self.blocks.iter().filter(|block| block.hosts.iter().any(|name| name == host)).count()
    }

    /// The block for a scenario of its own that contains this text.
    ///
    /// # Panics
    /// When the guide has none, or more than one: the scenario means another guide.
    #[must_use]
    #[track_caller]
    pub fn shown(&self, text: &str) -> &Block {
        let mut found =
            self.blocks.iter().filter(|block| block.hosts.is_empty() && block.script.contains(text));
        match (found.next(), found.next()) {
            (Some(block), None) => block,
            (first, _) => panic!(
                "{} blocks of {} with {text:?}",
                if first.is_some() { "several" } else { "no" },
                self.name
            ),
        }
    }

    /// Types the blocks that `wanted` chooses, as root, and prints how long each took.
    ///
    /// # Errors
    /// The first command that fails, with what it said.
    pub fn type_all(&self, lab: &Lab, wanted: impl Fn(&Block) -> bool) -> anyhow::Result<()> {
        for block in self.blocks.iter().filter(|block| wanted(block)) {
            for name in &block.hosts {
                let begun = Instant::now();
                let answer = lab.host(name).run(&block.script);
                let place = format!("{}:{} on {name}", self.name, block.line);
                ensure!(
                    answer.code == 0,
                    "{place}: exit code {}\n{}\n{}{}",
                    answer.code,
                    block.script,
                    answer.stdout,
                    answer.stderr
                );
                println!("  {place}: {:.1} s", begun.elapsed().as_secs_f32());
            }
        }
        Ok(())
    }
}

/// The blocks of a text.
fn blocks(text: &str) -> anyhow::Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (at, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix(FENCE)) {
            (Some(block), _) if line.trim_end() == "```" => {
                ensure!(!block.script.trim().is_empty(), "line {}: an empty block", block.line);
                blocks.extend(open.take());
            }
            (Some(_), Some(_)) => bail!("line {}: a block within a block", at + 1),
            (Some(block), None) => {
                block.script.push_str(line);
                block.script.push('\n');
            }
            (None, Some(hosts)) => {
                let hosts: Vec<String> = hosts.split(',').map(|name| name.trim().to_owned()).collect();
                ensure!(hosts.iter().all(|name| !name.is_empty()), "line {}: no host", at + 1);
                open = Some(Block { hosts, line: at + 1, script: String::new() });
            }
            (None, None) if line.trim_end() == SHOWN => {
                open = Some(Block { hosts: Vec::new(), line: at + 1, script: String::new() });
            }
            (None, None) => {}
        }
    }
    if let Some(block) = open {
        bail!("line {}: the block does not end", block.line);
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_in_order_with_the_hosts_that_they_name() {
        let text =
            "# A\n```sh host=a\none\ntwo <<END\nEND\n```\n```sh\nshown\n```\n```sh host=b,c\nthree\n```\n";
        let found = blocks(text).expect("a good guide");
        let hosts: Vec<_> = found.iter().map(|block| block.hosts.join("+")).collect();
        assert_eq!(hosts, ["a", "", "b+c"]);
        assert_eq!((found[0].line, found[0].script.as_str()), (2, "one\ntwo <<END\nEND\n"));
    }

    #[test]
    fn a_guide_that_is_not_whole_is_refused() {
        for bad in [
            "```sh host=a\none\n",
            "```sh host=\none\n```\n",
            "```sh host=a\n```\n",
            "```sh host=a\n```sh host=b\n```\n",
        ] {
            assert!(blocks(bad).is_err(), "{bad:?}");
        }
    }
}
