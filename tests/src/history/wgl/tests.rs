use super::super::sample::{read, refused, unknown, write};
use super::*;

fn good(ops: &[Op]) -> Searched {
    check(ops).expect("a good history")
}

fn bad(ops: &[Op]) {
    assert_eq!(check(ops).expect_err("a bad history").rule, "no order explains it");
}

/// The index of an answer is not looked at.
const BLIND: u64 = 0;

#[test]
fn good_histories_have_an_order() {
    let ops = [
        write("a", (1, 5), BLIND),
        read("a", (2, 3), BLIND),
        unknown("u", (4, 6)),
        read("a", (7, 8), BLIND),
        read("u", (9, 10), BLIND),
        write("b", (11, 20), BLIND),
        write("c", (12, 19), BLIND),
        read("b", (21, 22), BLIND),
        refused("r", (23, 24)),
        unknown("never", (1, 2)),
    ];
    let searched = good(&ops);
    assert_eq!((searched.windows, searched.calls, searched.not_judged), (1, 8, 0));
}

#[test]
fn stale_lost_and_invented_values_have_none() {
    let (a, b) = (write("a", (1, 2), BLIND), write("b", (3, 4), BLIND));
    bad(&[a.clone(), b.clone(), read("a", (5, 6), BLIND)]);
    bad(&[a.clone(), read("", (5, 6), BLIND)]);
    bad(&[a.clone(), read("x", (5, 6), BLIND)]);
    bad(&[a.clone(), refused("r", (3, 4)), read("r", (5, 6), BLIND)]);
    bad(&[a, read("later", (3, 4), BLIND), write("later", (5, 6), BLIND)]);
}

#[test]
fn a_value_does_not_come_back() {
    let both = [write("a", (1, 4), BLIND), write("b", (1, 4), BLIND)];
    let reads = |values: [&str; 3]| {
        let reads = values.iter().zip([5, 7, 9]).map(|(value, at)| read(value, (at, at + 1), BLIND));
        both.iter().cloned().chain(reads).collect::<Vec<Op>>()
    };
    bad(&reads(["a", "b", "a"]));
    good(&reads(["a", "a", "a"]));
    let once = [write("a", (1, 2), BLIND), unknown("u", (1, 2))];
    let reads = |values: [&str; 3]| {
        let reads = values.iter().zip([5, 7, 9]).map(|(value, at)| read(value, (at, at + 1), BLIND));
        once.iter().cloned().chain(reads).collect::<Vec<Op>>()
    };
    good(&reads(["a", "u", "u"]));
    bad(&reads(["u", "a", "u"]));
    bad(&reads(["a", "u", "a"]));
}

#[test]
fn keys_are_apart_and_long_histories_are_cut_where_nothing_is_under_way() {
    let mut ops = Vec::new();
    for n in 0..6_000_u64 {
        let at = n * 10;
        ops.push(write(&format!("v{n}"), (at, at + 2), BLIND));
        ops.push(read(&format!("v{n}"), (at + 1, at + 8), BLIND));
    }
    let searched = good(&ops);
    assert_eq!((searched.windows, searched.calls), (12, 12_000));
    let other = Op { key: "other".into(), ..read("v5", (1, 2), BLIND) };
    // The first value of a key is taken as it is found, so one that nobody writes may hold anything, but one thing.
    let differs = Op { key: "other".into(), ..read("v6", (3, 4), BLIND) };
    good(std::slice::from_ref(&other));
    bad(&[other, differs]);
    // The same mistake is found in the last window as in the first.
    ops.push(read("v5", (70_000, 70_001), BLIND));
    bad(&ops);
}

#[test]
fn a_window_that_cannot_be_cut_is_not_called_good() {
    let slow = read("v0", (1, 1_000_000), BLIND);
    let others = (0..WINDOW as u64).map(|n| write(&format!("v{n}"), (n * 10 + 1, n * 10 + 2), BLIND));
    let ops: Vec<Op> = std::iter::once(slow).chain(others).collect();
    let searched = good(&ops);
    assert_eq!((searched.windows, searched.not_judged), (0, WINDOW + 1));
}

#[test]
fn many_writes_at_once_are_ordered_by_what_was_read() {
    // Sixteen at once would be 16! orders; the memory of states makes it few.
    let mut ops: Vec<Op> = (0..16).map(|n| write(&format!("w{n}"), (1, 100), BLIND)).collect();
    for n in 0..16_u64 {
        ops.push(read(&format!("w{}", (n * 7) % 16), (n * 5 + 2, n * 5 + 4), BLIND));
    }
    good(&ops);
    ops.push(read("w0", (90, 95), BLIND));
    bad(&ops);
}
