//! The others, while somebody attacks: how long they wait, and how much memory the attacked coordinator takes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate_proto::v1;
use quorate_proto::v1::admin_service_client::AdminServiceClient;
use quorate_tests::cluster::{Daemon, Fleet};
use tokio::task::JoinHandle;

use crate::peers::{pids, speak_as};

/// An attacker is cut off within this (B-13).
pub(crate) const CLOSED: Duration = Duration::from_secs(5);
/// What a busy machine of two cores may add to it: the limit is the server's, the clock is ours.
pub(crate) const SLACK: Duration = Duration::from_secs(3);
/// Memory a coordinator may grow by (I-33).
pub(crate) const GROWTH_KIB: u64 = 64 * 1024;
/// Time between two calls of the others: a person's or a script's pace.
const PACE: Duration = Duration::from_millis(5);
/// How long they are watched before an attack.
const CALM: Duration = Duration::from_millis(1_500);
/// Time between two looks at the memory.
const LOOK: Duration = Duration::from_millis(20);

/// A user who goes on working on the attacked coordinator.
struct Bystander {
    stop: Arc<AtomicBool>,
    work: JoinHandle<(Vec<Duration>, Vec<String>)>,
}

impl Bystander {
    /// Is at work when it returns: who comes only once every place is taken waits for one, and that is not what is asked.
    async fn start(identity: &Path, address: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (channel, stopped) = (speak_as(identity, address), stop.clone());
        let mut client = AdminServiceClient::new(channel);
        client.get_caller(v1::GetCallerRequest {}).await.expect("an answer before the attack");
        let work = tokio::spawn(async move {
            let (mut took, mut failed) = (Vec::new(), Vec::new());
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !stopped.load(Ordering::Relaxed) {
                pace.tick().await;
                let begun = Instant::now();
                match client.get_caller(v1::GetCallerRequest {}).await {
                    Ok(_) => took.push(begun.elapsed()),
                    Err(status) => failed.push(status.to_string()),
                }
            }
            (took, failed)
        });
        Self { stop, work }
    }

    async fn end(self) -> (Vec<Duration>, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.work.await.expect("the bystander's task")
    }
}

fn p99(took: &mut [Duration]) -> f64 {
    took.sort();
    let at = took.len().saturating_sub(1) * 99 / 100;
    took.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1_000.0)
}

/// Resident memory of a process in KiB.
pub(crate) fn rss_kib(pid: i32) -> u64 {
    let status = procfs::process::Process::new(pid).and_then(|p| p.status()).expect("the process runs");
    status.vmrss.expect("resident memory")
}

/// What an attack ended with.
pub(crate) struct Verdict {
    /// Longest time until the attacker was cut off, if that is what must happen.
    pub(crate) closed: Option<Duration>,
    /// What happened, for the line that is printed.
    pub(crate) note: String,
}

/// Runs an attack on a coordinator beside a bystander, asserts what must hold and prints the figures.
pub(crate) async fn under(
    fleet: &Fleet,
    coordinator: &str,
    what: &str,
    attack: impl Future<Output = Verdict>,
) {
    let addresses = fleet.coordinators();
    let (_, grpc, _) = addresses.iter().find(|(name, _, _)| name == coordinator).expect("a coordinator");
    let pid = fleet.pid(Daemon::Coordinator(coordinator)).expect("it runs").as_raw_nonzero().get();
    let before = pids(fleet);
    let identity = fleet.dir().join("identities/vera");

    let calm = Bystander::start(&identity, grpc).await;
    tokio::time::timeout(CALM, std::future::pending::<()>()).await.expect_err("nothing ends it");
    let (mut took, failed) = calm.end().await;
    assert_eq!(failed, Vec::<String>::new(), "{what}: calls failed before the attack");
    let (p99_before, rss_before) = (p99(&mut took), rss_kib(pid));

    let most = Arc::new(AtomicU64::new(rss_before));
    let looker = tokio::spawn({
        let most = most.clone();
        async move {
            let mut pace = tokio::time::interval(LOOK);
            loop {
                pace.tick().await;
                most.fetch_max(rss_kib(pid), Ordering::Relaxed);
            }
        }
    });
    let others = Bystander::start(&identity, grpc).await;
    let Verdict { closed, note } = attack.await;
    let (mut took, failed) = others.end().await;
    looker.abort();
    let most = most.load(Ordering::Relaxed).max(rss_kib(pid));
    let grown = most.saturating_sub(rss_before);
    println!(
        "  {what:<34} {:<11} others' p99 {p99_before:>6.1} -> {:>6.1} ms ({} calls, {} failed)  rss {:>3} -> {:>3} MiB (+{:.1})  {note}",
        closed.map_or_else(String::new, |c| format!("cut {:.2} s", c.as_secs_f64())),
        p99(&mut took),
        took.len(),
        failed.len(),
        rss_before / 1024,
        most / 1024,
        grown as f64 / 1024.0,
    );
    assert!(closed.is_none_or(|c| c <= CLOSED + SLACK), "{what}: cut off only after {closed:?}");
    assert_eq!(failed, Vec::<String>::new(), "{what}: calls of others failed");
    assert!(grown <= GROWTH_KIB, "{what}: memory grew by {grown} KiB");
    assert_eq!(pids(fleet), before, "{what}: a coordinator ended");
}
