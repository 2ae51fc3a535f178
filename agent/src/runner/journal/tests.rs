use quorate_model::{ActionSpec, HookName, InstanceId, ObligationState, OperationId, ServiceName};

use super::*;

fn id() -> ExecutionId {
    ExecutionId::new("x-1").unwrap()
}

fn entry() -> Entry {
    Entry {
        assignment: Assignment {
            execution: id(),
            operation: OperationId::new("r-1").unwrap(),
            epoch: Epoch(7),
            grant_remaining: DurationMs(5_000),
            deadline: DurationMs(60_000),
            action: ActionSpec::ServiceRestart { service: ServiceName::new("ledger").unwrap() },
            disruptive: true,
        },
        instance: None,
        digest: "ab".repeat(32),
        boot_id: "boot".to_owned(),
        begin_before: Some(DurationMs(9_000)),
        at: Timestamp(1_763_700_000_000),
        intent: Some(Intent { at: Timestamp(3), uptime: DurationMs(4), evidence: None }),
        end: None,
    }
}

fn meta() -> Meta {
    Meta { incarnation: "i".to_owned(), starts: 2, highest_epoch: Epoch(7) }
}

fn owed() -> Owed {
    Owed {
        execution: id(),
        hook: Some(HookName::new("resume").unwrap()),
        traffic: None,
        config: None,
        maintenance: None,
        held: false,
        instance: InstanceId {
            node: quorate_model::NodeName::new("node1").unwrap(),
            service: ServiceName::new("ledger").unwrap(),
        },
        state: ObligationState::Open,
        boot_id: "boot".to_owned(),
        due_uptime: DurationMs(5),
        due_at: Timestamp(6),
        message: String::new(),
    }
}

fn stone() -> Tombstone {
    Tombstone { digest: "ab".repeat(32), epoch: Epoch(7), state: ExecutionState::Succeeded, at: Timestamp(1) }
}

/// What format 1 wrote on 2026-11-21. Never changes; a new format has its own.
const META_1: &str = "0183ab696e6361726e6174696f6ea169a673746172747302ad686967686573745f65706f636807";
const ENTRY_1: &str = concat!(
    "0188aa61737369676e6d656e7487a9657865637574696f6ea3782d31a96f7065726174696f6ea3722d31a565706f6368",
    "07af6772616e745f72656d61696e696e67cd1388a8646561646c696e65cdea60a6616374696f6e81af73657276696365",
    "5f7265737461727481a773657276696365a66c6564676572aa64697372757074697665c3a8696e7374616e6365c0a664",
    "6967657374d9406162616261626162616261626162616261626162616261626162616261626162616261626162616261",
    "6261626162616261626162616261626162616261626162a7626f6f745f6964a4626f6f74ac626567696e5f6265666f72",
    "65cd2328a26174cf0000019aa4b64500a6696e74656e7483a2617403a6757074696d6504a865766964656e6365c0a365",
    "6e64c0",
);
const OWED_1: &str = concat!(
    "0188a9657865637574696f6ea3782d31a4686f6f6ba6726573756d65a8696e7374616e636582a46e6f6465a56e6f6465",
    "31a773657276696365a66c6564676572a57374617465a44f50454ea7626f6f745f6964a4626f6f74aa6475655f757074",
    "696d6505a66475655f617406a76d657373616765a0",
);
const STONE_1: &str = concat!(
    "0184a6646967657374d94061626162616261626162616261626162616261626162616261626162616261626162616261",
    "626162616261626162616261626162616261626162616261626162a565706f636807a57374617465a953554343454544",
    "4544a2617401",
);

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn frozen_bytes_of_format_1() {
    fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, frozen: &str) {
        assert_eq!(crate::host::exec::hex(&encode(value).unwrap()), frozen);
        assert_eq!(decode::<T>("key", &unhex(frozen)).unwrap(), *value);
    }
    check(&meta(), META_1);
    check(&entry(), ENTRY_1);
    check(&owed(), OWED_1);
    check(&stone(), STONE_1);
}

#[test]
fn another_format_and_garbage_are_refused_as_loss() {
    let half = &unhex(ENTRY_1)[..100];
    for bytes in [&[][..], &[2, 0x80], &[1], &[1, 0xff, 0xff], half] {
        let error = decode::<Entry>("e/x-1", bytes).unwrap_err();
        assert!(error.is_loss() && error.to_string().contains("e/x-1"), "{error}");
    }
}

#[tokio::test]
async fn what_was_written_survives_the_loss_of_what_was_not_synced() {
    let disk = MemoryDisk::new();
    let journal = Journal::in_memory(&disk).unwrap();
    let first = journal.begin("i").await.unwrap();
    assert_eq!((first.incarnation.as_str(), first.starts), ("i", 1));
    journal.accept(&id(), &entry(), &meta()).await.unwrap();
    disk.crash();
    drop(journal);
    let journal = Journal::in_memory(&disk).unwrap();
    assert_eq!(journal.begin("other").await.unwrap(), Meta { starts: 3, ..meta() });
    let found = journal.contents().unwrap();
    assert_eq!(found.entries, [(id(), entry())]);
    journal.bury(&id(), &stone()).await.unwrap();
    let found = journal.contents().unwrap();
    assert!(found.entries.is_empty());
    assert_eq!(found.tombstones, [(id(), stone())]);
    journal.drop_tombstone(&id()).await.unwrap();
    assert!(journal.contents().unwrap().tombstones.is_empty());
}

#[test]
fn digests_and_their_hex_agree() {
    let digest: Digest = std::array::from_fn(|n| u8::try_from(n).unwrap());
    assert_eq!(digest_of(&digest_hex(&digest)), digest);
    assert_eq!(digest_of("short"), [0; 32]);
}
