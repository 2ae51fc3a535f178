//! The one place where consensus meets the heart: core's state is the machine, its entries are the commands.

use quorate_core::{Answer, Entry, State};

use super::machine::Machine;

impl Machine for State {
    type Command = Entry;
    type Answer = Answer;

    fn apply(&mut self, index: u64, command: &Entry) -> Answer {
        quorate_core::apply(self, index, command)
    }
}
