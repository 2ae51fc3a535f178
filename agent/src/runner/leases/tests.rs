//! The keeper over a host in memory: time is the test's.

use quorate_durable::MemoryDisk;
use quorate_model::{NodeName, Timestamp};

use super::*;
use crate::actions::{LeaseKeeper as _, LeaseNow};
use crate::config::Config;
use crate::host::Verb;
use crate::host::fake::{FakeHost, FakeUnit};

const TTL: DurationMs = DurationMs(15_000);

struct Bench {
    host: FakeHost,
    disk: MemoryDisk,
    leases: Arc<Leases>,
    began: tokio::time::Instant,
    stop: Shutdown,
    keeper: tokio::task::JoinHandle<Result<(), JournalError>>,
}

fn group() -> GroupName {
    GroupName::new("db").unwrap()
}

fn service() -> ServiceName {
    ServiceName::new("pg").unwrap()
}

fn order(epoch: u64, answer: Option<LeaseWord>) -> LeaseOrder {
    let lease =
        HeldLease { group: group(), service: service(), epoch: Epoch(epoch), ttl: TTL, recalled: false };
    LeaseOrder { lease, driver: Driver::Systemd { unit: "pg.service".to_owned() }, answer }
}

fn granted(sent: u64) -> Option<LeaseWord> {
    Some(LeaseWord::Granted { sent: DurationMs(sent) })
}

fn settings() -> Settings {
    let text = "node = \"node1\"\ndata_dir = \"/nonexistent\"\nhelper_socket = \"/nonexistent/socket\"\n\
                coordinators = [\"127.0.0.1:1\"]\n[policy]\nactions = [\"role.*\"]\nservices = [\"pg\"]\n";
    Settings::new(Config::parse(text).unwrap())
}

fn keeper(host: FakeHost, disk: MemoryDisk, began: tokio::time::Instant) -> Bench {
    let journal = Journal::in_memory(&disk).unwrap();
    let found = journal.contents().unwrap().leases;
    let now: BootClock =
        Arc::new(move || DurationMs(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)));
    let leases = Leases::new(journal, Arc::new(host.clone()), settings(), now, found);
    let stop = Shutdown::new();
    let keeper = tokio::spawn(Arc::clone(&leases).run(stop.clone()));
    Bench { host, disk, leases, began, stop, keeper }
}

fn bench() -> Bench {
    let units = BTreeMap::from([("pg.service".to_owned(), FakeUnit::default())]);
    keeper(FakeHost::new(units), MemoryDisk::new(), tokio::time::Instant::now())
}

impl Bench {
    fn runs(&self) -> bool {
        let mut running = false;
        self.host.change("pg.service", |unit| running = unit.running);
        running
    }

    async fn at(&self, ms: u64) {
        tokio::time::sleep_until(self.began + Duration::from_millis(ms)).await;
    }

    async fn order(&self, order: LeaseOrder) -> LeaseStanding {
        self.leases.order(order).await.unwrap()
    }

    fn phase(&self) -> Phase {
        self.leases.of(&group()).unwrap().lease.phase
    }

    async fn released(&self) {
        while !matches!(self.phase(), Phase::Released { .. }) {
            tokio::time::timeout(Duration::from_secs(60), self.leases.changed(IDLE)).await.unwrap();
        }
    }

    /// SIGKILL: another helper finds the journal, on this host or on the host after a boot.
    async fn restart(self, host: FakeHost) -> Self {
        let Self { disk, leases, began, keeper: running, .. } = self;
        running.abort();
        let _ = running.await;
        leases.journal.close();
        keeper(host, disk, began)
    }
}

#[tokio::test(start_paused = true)]
async fn what_leads_is_stopped_when_nobody_answers_and_released_only_then() {
    let bench = bench();
    assert_eq!(bench.order(order(7, None)).await, LeaseStanding::Kept);
    assert!(bench.leases.may_lead(&service()).unwrap_err().contains("was not renewed in this boot"));
    bench.at(60_000).await;
    assert!(bench.runs(), "nobody has answered yet: it led before");
    bench.order(order(7, granted(59_000))).await;
    bench.leases.may_lead(&service()).unwrap();
    bench.at(68_900).await;
    assert!(bench.runs());
    bench.released().await;
    let truth = bench.host.truth();
    assert_eq!(
        (truth.len(), truth[0].verb, truth[0].at_ms, truth[0].escalated),
        (1, Verb::Stop, 69_000, false)
    );
    assert!(bench.leases.may_lead(&service()).is_err());
    let standing = bench.order(order(7, granted(69_500))).await;
    assert_eq!(standing, LeaseStanding::Released("stopped: no renewal was answered in time".to_owned()));
    assert_eq!(bench.order(order(8, None)).await, LeaseStanding::Kept, "the next one");
    bench.stop.trigger();
    bench.keeper.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_does_not_stop_is_killed_before_its_time_is_over() {
    let bench = bench();
    bench.host.change("pg.service", |unit| unit.ignores_stop = true);
    bench.order(order(7, None)).await;
    bench.order(order(7, granted(0))).await;
    bench.released().await;
    let truth = bench.host.truth();
    assert!(truth[0].escalated && !truth[0].running);
    assert_eq!(truth[0].at_ms, 13_750);
}

#[tokio::test(start_paused = true)]
async fn recalled_or_lost_it_is_stopped_at_once_and_may_not_be_started() {
    for lost in [true, false] {
        let bench = bench();
        bench.host.change("pg.service", |unit| unit.stop_takes = Duration::from_secs(2));
        bench.order(order(7, None)).await;
        bench.order(order(7, granted(0))).await;
        bench.at(1_000).await;
        let mut ended = order(7, lost.then_some(LeaseWord::Lost));
        ended.lease.recalled = !lost;
        assert_eq!(bench.order(ended).await, LeaseStanding::Stopping);
        assert!(bench.leases.may_lead(&service()).is_err() && bench.runs());
        bench.at(1_500).await;
        assert!(bench.leases.stopping(&service()).is_some());
        assert_eq!(bench.order(order(7, granted(1_400))).await, LeaseStanding::Stopping, "too late");
        bench.released().await;
        assert_eq!(bench.host.truth()[0].at_ms, 3_000);
        assert_eq!(bench.leases.stopping(&service()), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_helper_that_comes_back_goes_on_at_once() {
    let first = bench();
    first.order(order(7, None)).await;
    first.order(order(7, granted(0))).await;
    let host = first.host.clone();
    let second = first.restart(host.clone()).await;
    second.leases.may_lead(&service()).unwrap();
    second.at(9_000).await;
    assert!(second.runs());
    let Bench { disk, leases, began, keeper: running, .. } = second;
    running.abort();
    leases.journal.close();
    tokio::time::sleep_until(began + Duration::from_secs(100)).await;
    assert_eq!(host.truth(), [], "nobody was there");
    let third = keeper(host, disk, began);
    third.released().await;
    assert_eq!(third.host.truth()[0].at_ms, 100_000);
}

#[tokio::test(start_paused = true)]
async fn after_a_boot_nothing_runs_without_a_renewal() {
    let first = bench();
    first.order(order(7, None)).await;
    first.order(order(7, granted(0))).await;
    let host = first.host.rebooted();
    host.change("pg.service", |unit| unit.running = true);
    let second = first.restart(host).await;
    assert!(second.leases.may_lead(&service()).is_err());
    second.at(1_000).await;
    assert!(!second.runs(), "the boot had started it");
    second.host.change("pg.service", |unit| unit.running = true);
    second.at(2_000).await;
    assert!(!second.runs(), "and whoever starts it again");
    second.order(order(7, granted(1_900))).await;
    second.leases.may_lead(&service()).unwrap();
    second.host.change("pg.service", |unit| unit.running = true);
    second.at(11_000).await;
    assert!(second.runs(), "renewed in this boot");
    assert_eq!(second.host.truth().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_only_adopted_outlives_a_boot() {
    let first = bench();
    first.order(order(7, None)).await;
    let host = first.host.rebooted();
    host.change("pg.service", |unit| unit.running = true);
    let second = first.restart(host).await;
    second.at(60_000).await;
    assert!(second.runs() && second.host.truth().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_host_does_not_let_be_touched_or_is_older_is_not_taken_up() {
    let bench = bench();
    let mut other = order(7, None);
    other.driver = Driver::Systemd { unit: "sshd.service".to_owned() };
    assert_eq!(bench.leases.order(other).await.unwrap_err().0, Reason::PolicyDenied);
    bench.order(order(7, granted(0))).await;
    assert_eq!(bench.phase(), Phase::TakenUp { void: false }, "not written down when that was answered");
    assert_eq!(bench.leases.order(order(6, None)).await.unwrap_err().0, Reason::EpochStale);
    let error = bench.leases.order(order(8, None)).await.unwrap_err();
    assert_eq!(error.0, Reason::PrimaryLease);
    bench.released().await;
    assert!(!bench.runs());
    assert_eq!(bench.order(order(8, None)).await, LeaseStanding::Kept);
}

#[tokio::test(start_paused = true)]
async fn actions_see_their_own_lease_and_hooks_its_epoch() {
    let bench = bench();
    let instance = InstanceId { node: NodeName::new("node1").unwrap(), service: service() };
    assert_eq!(bench.leases.held_by(&instance), None);
    assert_eq!(bench.leases.standing(&group(), Epoch(7)), LeaseNow::NotYet);
    bench.order(order(7, None)).await;
    assert_eq!(bench.leases.held_by(&instance), Some((group(), Epoch(7))));
    bench.order(order(7, granted(0))).await;
    let (left, needed) = (DurationMs(10_000), DurationMs(5_000));
    assert_eq!(bench.leases.standing(&group(), Epoch(7)), LeaseNow::Live { left, needed });
    assert_eq!(bench.leases.standing(&group(), Epoch(8)), LeaseNow::NotYet);
    assert!(matches!(bench.leases.standing(&group(), Epoch(6)), LeaseNow::Over(_)));
    bench.released().await;
    assert!(matches!(bench.leases.standing(&group(), Epoch(7)), LeaseNow::Over(_)));
    assert_eq!(bench.leases.held_by(&instance), None);
}

/// What format 1 writes of a lease since 2026-11-26. Never changes; a field that comes later has a default.
#[test]
fn a_lease_is_written_as_ever() {
    let leased = Leased {
        service: service(),
        driver: Driver::Process { name: "pg".to_owned() },
        boot_id: "boot".to_owned(),
        lease: Machine {
            epoch: Epoch(7),
            ttl: TTL,
            phase: Phase::Stopping { kill_at: DurationMs(9), why: Why::Recalled },
        },
        at: Timestamp(1),
    };
    let bytes = super::super::journal::encode(&leased).unwrap();
    assert_eq!(crate::host::exec::hex(&bytes), LEASED_1);
    assert_eq!(super::super::journal::decode::<Leased>("l/db", &bytes).unwrap(), leased);
}

const LEASED_1: &str = concat!(
    "0185a773657276696365a27067a664726976657281a770726f6365737381a46e616d65a27067a7626f6f745f6964a462",
    "6f6f74a56c6561736583a565706f636807a374746ccd3a98a5706861736581a853746f7070696e6782a76b696c6c5f61",
    "7409a3776879a8526563616c6c6564a2617401",
);
