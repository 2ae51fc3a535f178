//! F-11b: a closed store whose files were changed. It opens with everything, or it is refused with one sentence; it is
//! never opened with less, and never ends a process without a word.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use quorate_tests::crash::place::Place;
use quorate_tests::crash::rng::Rng;
use quorate_tests::crash::run::{Own, Progress, Subject as _, Verdict, check, load};
use quorate_tests::crash::shim::Fault;

use crate::{number, seed};

/// A closed store, what it was told, and a whole copy of it taken earlier in its life.
struct Good {
    subject: Own,
    place: Place,
    progress: Progress,
    /// Its files, without the locks.
    files: Vec<PathBuf>,
}

const OLD: &str = "earlier";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable directory");
    for entry in fs::read_dir(from).expect("it is there").filter_map(Result::ok) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a readable file");
        }
    }
}

fn good(subject: Own, half: u64, whole: u64) -> Good {
    let (place, mut progress) = (Place::new(), Progress::default());
    for until in [half, whole] {
        let ended =
            load(&Own { until, ..subject.clone() }, &place, 5, &mut progress, &Fault::default(), None);
        assert_eq!(ended.how(), "exit 0", "{}", ended.said);
        if until == half {
            copy(&place.root(), &place.beside(OLD));
        }
    }
    let mut files: Vec<PathBuf> = walkdir::WalkDir::new(place.root())
        .sort_by_file_name()
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .filter_map(|entry| Some(entry.path().strip_prefix(place.root()).ok()?.to_owned()))
        .collect();
    files.retain(|path| path.extension().is_none_or(|e| e != "lock"));
    Good { subject, place, progress, files }
}

/// What is done to one file.
const WAYS: [&str; 12] = [
    "one bit",
    "16 bits",
    "bit in the head",
    "cut at random",
    "cut in half",
    "cut the last page",
    "empty",
    "a page of zeros",
    "a page from elsewhere",
    "removed",
    "an earlier copy",
    "garbage",
];

/// Changes one file; `false` when this way does not apply to it.
fn damage(way: &str, path: &Path, earlier: &Path, rng: &mut Rng) -> bool {
    let whole = fs::read(path).expect("it is there");
    let mut bytes = whole.clone();
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |n| n as u64 + 1);
    let mut flip = |bytes: &mut Vec<u8>, below: u64| {
        if let Some(byte) = usize::try_from(rng.below(below)).ok().and_then(|at| bytes.get_mut(at)) {
            *byte ^= 1 << (rng.next_u64() % 8);
        }
    };
    match way {
        "one bit" => flip(&mut bytes, used),
        "16 bits" => (0..16).for_each(|_| flip(&mut bytes, used)),
        "bit in the head" => flip(&mut bytes, used.min(64)),
        "cut at random" => bytes.truncate(usize::try_from(rng.below(used)).unwrap_or(0)),
        "cut in half" => bytes.truncate(bytes.len() / 2),
        "cut the last page" => {
            bytes.truncate(usize::try_from(used.saturating_sub(1) / 4096 * 4096).unwrap_or(0))
        }
        "empty" => bytes.clear(),
        "a page of zeros" | "a page from elsewhere" => {
            let pages = used.div_ceil(4096);
            let at = usize::try_from(rng.below(pages) * 4096).unwrap_or(0);
            let from = usize::try_from(rng.below(pages) * 4096).unwrap_or(0);
            let other = match way {
                "a page of zeros" => vec![0; 4096],
                _ => whole.get(from..whole.len().min(from + 4096)).unwrap_or_default().to_vec(),
            };
            let end = bytes.len().min(at + 4096);
            for (slot, byte) in bytes.get_mut(at..end).into_iter().flatten().zip(other) {
                *slot = byte;
            }
        }
        "garbage" => bytes.iter_mut().for_each(|byte| *byte = rng.next_u64().to_le_bytes()[0]),
        "removed" => {
            fs::remove_file(path).expect("it is ours");
            return true;
        }
        "an earlier copy" => match fs::read(earlier) {
            Ok(old) => bytes = old,
            Err(_) => return false,
        },
        _ => unreachable!("a way without a meaning: {way}"),
    }
    if bytes == whole {
        return false;
    }
    fs::write(path, bytes).expect("it is ours");
    true
}

/// Damage to more than one file; the rest of the damages above is done to one.
fn damage_all(way: &str, good: &Good, root: &Path) -> bool {
    let (log, old) = match good.subject.load {
        "log" => (root.join("s/log"), good.place.beside(OLD).join("s/log")),
        _ => (root.join("s"), good.place.beside(OLD).join("s")),
    };
    match way {
        "the whole directory earlier" => {
            fs::remove_dir_all(&log).expect("it is ours");
            copy(&old, &log);
        }
        "the directory gone" => fs::remove_dir_all(&log).expect("it is ours"),
        "a half-made snapshot left" => {
            fs::write(log.join("snap.00000000000000ff.generating"), b"half").expect("it is ours")
        }
        "a blob appeared" => {
            fs::create_dir_all(log.join("blobs")).expect("it is ours");
            fs::write(log.join("blobs/77"), b"large").expect("it is ours");
        }
        "a file where the directory was" => {
            fs::remove_dir_all(&log).expect("it is ours");
            fs::write(&log, b"no directory").expect("it is ours");
        }
        _ => unreachable!("a way without a meaning: {way}"),
    }
    true
}

const WAYS_FOR_ALL: [&str; 5] = [
    "the whole directory earlier",
    "the directory gone",
    "a half-made snapshot left",
    "a blob appeared",
    "a file where the directory was",
];

pub(crate) fn mutated_directories() {
    let wanted = number("QUORATE_MUTATED", 360);
    let goods = [good(Own { writers: 1, ..Own::wrapper() }, 20, 40), good(Own::member_store(), 60, 120)];
    let next = AtomicU64::new(0);
    let counts: Mutex<BTreeMap<(String, String), [u64; 3]>> = Mutex::default();
    let findings: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= wanted {
                        break;
                    }
                    if let Some(good) = goods.get(usize::try_from(number % 2).unwrap_or(0)) {
                        one(good, number, &counts, &findings);
                    }
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("  {:<18} {:<32} {:>6} {:>8} {:>9}", "store", "damage", "whole", "refused", "repaired");
    let (mut whole, mut refused, mut repaired) = (0, 0, 0);
    for ((store, way), row) in &counts {
        let [a, b, c] = row;
        println!("  {store:<18} {way:<32} {a:>6} {b:>8} {c:>9}");
        (whole, refused, repaired) = (whole + a, refused + b, repaired + c);
    }
    let sum = whole + refused + repaired;
    println!(
        "  {sum} directories: {whole} whole, {refused} refused with a sentence, {repaired} repaired, 0 silent losses"
    );
    let findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(findings.is_empty(), "{} of {wanted}: {findings:#?}", findings.len());
    assert!(refused > wanted / 5 && whole > 0, "the damage did nothing, or nothing opens");
}

fn one(
    good: &Good,
    number: u64,
    counts: &Mutex<BTreeMap<(String, String), [u64; 3]>>,
    findings: &Mutex<Vec<String>>,
) {
    let mut rng = Rng::new(seed(), number);
    let root = good.place.beside(&format!("case-{number}"));
    let (what, way) = loop {
        let _ = fs::remove_dir_all(&root);
        copy(&good.place.root(), &root);
        if rng.chance(150) {
            let way = WAYS_FOR_ALL[usize::try_from(rng.below(WAYS_FOR_ALL.len() as u64)).unwrap_or(0)];
            damage_all(way, good, &root);
            break (String::new(), way);
        }
        let file = &good.files[usize::try_from(rng.below(good.files.len() as u64)).unwrap_or(0)];
        let way = WAYS[usize::try_from(rng.below(WAYS.len() as u64)).unwrap_or(0)];
        if damage(way, &root.join(file), &good.place.beside(OLD).join(file), &mut rng) {
            break (file.display().to_string(), way);
        }
    };
    let verdict = check(&good.subject, &root, 5, &good.progress);
    let slot = match &verdict {
        Verdict::Whole(_) => Some(0),
        Verdict::Refused(_) => Some(1),
        Verdict::Repaired(_) => Some(2),
        Verdict::Lost(_) | Verdict::Torn(_) | Verdict::Broken(_) => None,
    };
    match slot {
        Some(slot) => {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (good.subject.name().to_owned(), way.to_owned());
            counts.entry(key).or_default()[slot] += 1;
        }
        None => findings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("{} #{number}: {what} {way}: {verdict:?}", good.subject.name())),
    }
    let _ = fs::remove_dir_all(&root);
}
