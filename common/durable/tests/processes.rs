//! What needs a process of its own: the probe, the lock between processes, and the death by a failed barrier.
//!
//! This file has its own `main`, because the probe starts the running executable again.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use quorate_durable::{
    Batch, Change, Durable, Engine, EngineError, MemoryDisk, OpenError, Options, PROBE_ARGUMENT, Pair, Probe,
    SpaceFloor, SyncError, probe_main,
};

/// Set for a process whose probe is to be ended.
const END_PROBE: &str = "QUORATE_TEST_END_PROBE";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let first = args.next().unwrap_or_default();
    if first == PROBE_ARGUMENT {
        if std::env::var_os(END_PROBE).is_some() {
            // As a service manager does with everything that belongs to a service.
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
        }
        return probe_main(args);
    }
    if first == "open" {
        return match Durable::open(options(Path::new(&args.next().unwrap()))) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{error}: {:?}; loss: {}", std::error::Error::source(&error), error.is_loss());
                ExitCode::from(error.exit_code())
            }
        };
    }
    if first == "hold" {
        hold(args.next());
        return ExitCode::SUCCESS;
    }
    if first == "fail-barrier" {
        fail_barrier();
        return ExitCode::SUCCESS;
    }
    if first == "--list" {
        return ExitCode::SUCCESS;
    }
    two_processes_are_refused();
    damaged_directories_are_refused_and_the_parent_lives();
    a_failed_barrier_ends_the_process();
    a_probe_ended_by_others_condemns_nothing();
    a_limit_of_open_files_condemns_nothing();
    a_creation_cut_short_is_begun_again();
    println!("processes: 6 tests passed");
    ExitCode::SUCCESS
}

fn options(dir: &Path) -> Options {
    Options { cache_bytes: 8 << 20, probe: Probe::SelfExe, space: SpaceFloor::small(), ..Options::agent(dir) }
}

fn fill(store: &Durable, records: u32) {
    for n in 0..records {
        let mut batch = Batch::new();
        batch.put_large(&n.to_be_bytes(), &vec![n.to_be_bytes()[3]; 300 + n as usize * 40]).unwrap();
        store.commit_blocking(batch).unwrap();
    }
}

/// Opens the store, says so, and keeps it until standard input ends.
fn hold(dir: Option<OsString>) {
    let store = Durable::open(options(Path::new(&dir.unwrap()))).unwrap();
    println!("open");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(store);
}

fn two_processes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("s");
    let mut child = Command::new("/proc/self/exe")
        .arg("hold")
        .arg(&at)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let error = Durable::open(options(&at)).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(!error.is_loss());
    assert!(at.join("db").exists(), "a store in use was moved");
    child.kill().unwrap();
    child.wait().unwrap();
    // A killed process leaves no lock behind.
    drop(Durable::open(options(&at)).unwrap());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A damaged directory either is refused with a reason, or reads back every record: never less, never a dead parent.
fn damaged_directories_are_refused_and_the_parent_lives() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    let store = Durable::open(options(&good)).unwrap();
    fill(&store, 200);
    drop(store);
    let whole = std::fs::read(good.join("db")).unwrap();
    let used = whole.iter().rposition(|b| *b != 0).unwrap();
    let mut cases: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), Vec::new()),
        (
            "garbage".into(),
            (0..whole.len()).map(|n| u8::try_from(n * 2_654_435_761 % 251).unwrap()).collect(),
        ),
        ("zero".into(), vec![0; whole.len()]),
    ];
    for n in 1..8 {
        cases.push((format!("cut {n}/8"), whole[..used * n / 8].to_vec()));
        let mut flipped = whole.clone();
        flipped[used * n / 8] ^= 0x10;
        cases.push((format!("bit at {n}/8"), flipped));
        let mut zeroed = whole.clone();
        let start = used * n / 8 / 4096 * 4096;
        zeroed[start..start + 4096].fill(0);
        cases.push((format!("page at {n}/8 zeroed"), zeroed));
    }
    let mut refused = 0;
    for (n, (name, bytes)) in cases.iter().enumerate() {
        let at = dir.path().join(format!("case-{n}"));
        copy(&good, &at);
        for snapshot in std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()) {
            // Without sled's own index the whole file is read back.
            if n % 2 == 0 && snapshot.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                std::fs::remove_file(snapshot).unwrap();
            }
        }
        std::fs::write(at.join("db"), bytes).unwrap();
        std::fs::copy(quorate_durable::high_water_path(&good), quorate_durable::high_water_path(&at))
            .unwrap();
        match Durable::open(options(&at)) {
            Ok(store) => {
                let pairs = store.scan(vec![]..=vec![0xFD; 4], 1000).unwrap();
                assert_eq!(pairs.len(), 200, "{name}: opened with fewer records");
            }
            Err(error) => {
                refused += 1;
                assert!(error.is_loss(), "{name}: {error}");
                assert!(!at.exists(), "{name}: not moved aside");
            }
        }
    }
    let at = dir.path().join("conf");
    copy(&good, &at);
    std::fs::write(at.join("conf"), b"garbage").unwrap();
    std::fs::copy(quorate_durable::high_water_path(&good), quorate_durable::high_water_path(&at)).unwrap();
    // sled tolerates some garbage here; then nothing may be missing.
    match Durable::open(options(&at)) {
        Ok(store) => assert_eq!(store.scan(vec![]..=vec![0xFD; 4], 1000).unwrap().len(), 200),
        Err(error) => assert!(error.is_loss(), "{error}"),
    }
    println!("processes: {refused} of {} damaged directories refused, the others whole", cases.len());
    assert!(refused >= 3, "at least the empty, the garbage and the zeroed file must be refused");
}

/// An engine whose barrier fails.
struct NoBarrier(Arc<dyn Engine>);

impl Engine for NoBarrier {
    fn apply(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        self.0.apply(changes)
    }
    fn sync(&self) -> Result<(), SyncError> {
        Err(SyncError::Barrier("Input/output error".to_owned()))
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.0.get(key)
    }
    fn scan(&self, range: std::ops::RangeInclusive<Vec<u8>>, limit: usize) -> Result<Vec<Pair>, EngineError> {
        self.0.scan(range, limit)
    }
    fn last(&self, range: std::ops::RangeInclusive<Vec<u8>>) -> Result<Option<Pair>, EngineError> {
        self.0.last(range)
    }
    fn read_high_water(&self) -> Result<Option<Vec<u8>>, EngineError> {
        self.0.read_high_water()
    }
    fn write_high_water(&self, bytes: &[u8]) -> Result<(), EngineError> {
        self.0.write_high_water(bytes)
    }
}

fn fail_barrier() {
    let disk = MemoryDisk::new();
    drop(Durable::open_engine(disk.engine(), false, true).unwrap());
    let store = Durable::open_engine(Arc::new(NoBarrier(disk.engine())), true, false).unwrap();
    let mut batch = Batch::new();
    batch.put(b"k", b"v").unwrap();
    let outcome = store.commit_blocking(batch);
    println!("went on: {outcome:?}");
}

fn a_failed_barrier_ends_the_process() {
    let output = Command::new("/proc/self/exe").arg("fail-barrier").output().unwrap();
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("fdatasync of store memory failed (Input/output error)"), "{said}");
    assert!(!String::from_utf8(output.stdout).unwrap().contains("went on"));
}

/// Opens in a process of its own; exit code and what it says.
fn open_elsewhere(command: &mut Command, at: &Path) -> (Option<i32>, String) {
    let output = command.arg("open").arg(at).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn a_probe_ended_by_others_condemns_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("s");
    drop(Durable::open(options(&at)).unwrap());
    let (code, said) = open_elsewhere(Command::new("/proc/self/exe").env(END_PROBE, "1"), &at);
    assert_eq!(code, Some(74), "{said}");
    assert!(said.contains("signal 15") && said.contains("loss: false"), "{said}");
    assert!(at.join("db").exists(), "a good store was moved aside: {said}");
    drop(Durable::open(options(&at)).unwrap());
}

fn a_limit_of_open_files_condemns_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("s");
    drop(Durable::open(options(&at)).unwrap());
    let own = std::env::current_exe().unwrap();
    for limit in 4..20 {
        let script = format!("ulimit -n {limit}; exec \"$0\" open \"$1\"");
        let output = Command::new("sh").args(["-c", &script]).arg(&own).arg(&at).output().unwrap();
        assert!(at.join("db").exists(), "a good store was moved aside with {limit} files: {output:?}");
    }
    drop(Durable::open(options(&at)).unwrap());
}

fn a_creation_cut_short_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("s");
    // What sled leaves when it dies between the two writes of its configuration.
    std::fs::create_dir(dir.path().join("s.new")).unwrap();
    std::fs::write(dir.path().join("s.new/conf"), b"ver").unwrap();
    fill(&Durable::open(options(&at)).unwrap(), 3);
    assert!(!dir.path().join("s.new").exists());
    assert_eq!(Durable::open(options(&at)).unwrap().scan(vec![]..=vec![0xFD; 4], 10).unwrap().len(), 3);
}
