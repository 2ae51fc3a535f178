//! 9: any edit, deletion, reordering or truncation of the audit is found, at the first bad record (I-32).

use quorate_core::state::Audit;
use quorate_core::state::audit::{AuditDraft, AuditResult, verify_kept};
use quorate_model::{Principal, Timestamp};

/// Records of one run.
const RECORDS: usize = 12;

fn whole(data: &[u8]) -> Audit {
    let mut audit = Audit::default();
    for place in 0..RECORDS {
        let byte = data.get(place).copied().unwrap_or(0);
        audit.append(AuditDraft {
            at: Timestamp(i64::from(byte)),
            event_type: "change".into(),
            client_ip: String::new(),
            principal: Principal::System,
            action: "node.cordon".into(),
            resource: String::from_utf8_lossy(data.get(..usize::from(byte) % 8).unwrap_or(data)).into_owned(),
            result: AuditResult::Ok,
            reason: String::new(),
            details: format!("record {place}"),
            request_id: None,
            operation: None,
        });
    }
    audit
}

pub(super) fn run(data: &[u8]) {
    let mut audit = whole(data);
    assert_eq!(verify_kept(&audit), Ok(()), "an untouched record is found bad");
    let [how, place, other] = [0, 1, 2].map(|i| data.get(i).copied().unwrap_or(0));
    let place = usize::from(place) % RECORDS;
    let seq = u64::try_from(place).unwrap_or(0) + 1;
    match how % 6 {
        0 => audit.records[place].what.details.push('x'),
        1 => {
            audit.records[place].what.at = Timestamp(audit.records[place].what.at.0 ^ (1_i64 << (other % 63)))
        }
        2 => {
            audit.records.remove(place);
        }
        3 => {
            if place + 1 == RECORDS {
                return;
            }
            audit.records.swap(place, place + 1);
        }
        4 => audit.records.truncate(place),
        _ => audit.records[place].hash.0[usize::from(other) % 32] ^= 1,
    }
    assert_eq!(
        verify_kept(&audit),
        Err(seq),
        "tampering {} with record {seq} is found elsewhere or not at all",
        how % 6
    );
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    (0..6_u8)
        .flat_map(|how| [[how, 0, 1, 2].to_vec(), [how, 11, 9, 0].to_vec(), [how, 5, 255, b'a'].to_vec()])
        .collect()
}
