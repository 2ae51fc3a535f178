//! 2: bytes from a disk are an entry, a state, a journal's record, or an error; never a panic. What decodes encodes to
//! something that decodes to the same.

use quorate_agent::runner::journal;
use quorate_core::{Entry, State};
use quorate_model::{ExecutionId, Timestamp};

pub(super) fn run(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 4 {
        0 => {
            if let Ok(entry) = rmp_serde::from_slice::<Entry>(bytes) {
                let again = rmp_serde::to_vec_named(&entry).expect("an entry encodes");
                let again: Entry = rmp_serde::from_slice(&again).expect("what we write decodes");
                assert_eq!(entry, again);
            }
        }
        1 => {
            if let Ok(state) = rmp_serde::from_slice::<State>(bytes) {
                let again = rmp_serde::to_vec_named(&state).expect("a state encodes");
                let again: State = rmp_serde::from_slice(&again).expect("what we write decodes");
                assert_eq!(state.digest(), again.digest());
            }
        }
        2 => {
            let _ = journal::decode::<journal::Entry>("e/x", bytes);
            let _ = journal::decode::<journal::Owed>("o/x", bytes);
        }
        _ => {
            if let Ok(stone) = journal::decode::<journal::Tombstone>("t/x", bytes) {
                let again = journal::encode(&stone).expect("it encodes");
                let again: journal::Tombstone =
                    journal::decode("t/x", &again).expect("what we write decodes");
                assert_eq!(format!("{stone:?}"), format!("{again:?}"));
            }
            let _ = journal::decode::<journal::Meta>("m", bytes);
        }
    }
    // An id is checked wherever it comes from.
    if let Ok(id) =
        std::str::from_utf8(bytes).map_err(|_| ()).and_then(|t| ExecutionId::new(t).map_err(|_| ()))
    {
        assert!(!id.as_str().is_empty() && id.as_str().is_ascii());
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let entries = super::frozen_entries();
    let mut state = State::default();
    for (index, bytes) in (1..).zip(&entries) {
        let entry: Entry = rmp_serde::from_slice(bytes).expect("a frozen entry");
        let _ = quorate_core::apply(&mut state, index, &entry);
    }
    let with = |which: u8, bytes: &[u8]| [&[which], bytes].concat();
    let mut seeds: Vec<Vec<u8>> = entries.iter().map(|bytes| with(0, bytes)).collect();
    seeds.push(with(1, &rmp_serde::to_vec_named(&state).expect("a state encodes")));
    let stone = journal::Tombstone {
        digest: "a".repeat(64),
        epoch: quorate_model::Epoch(7),
        state: quorate_model::ExecutionState::Succeeded,
        at: Timestamp(1),
    };
    seeds.push(with(3, &journal::encode(&stone).expect("it encodes")));
    seeds
}
