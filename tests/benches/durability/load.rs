//! Writers: the same for every store that is measured.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate_proto::v1::group_service_client::GroupServiceClient;
use quorate_proto::v1::{ApplyServiceRequest, Driver, Selector, ServiceSpec, driver};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::fleet::change;

/// What a run of writers did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) writes: u64,
    pub(crate) wall: Duration,
    /// Of each write, ascending, in microseconds.
    latencies: Vec<u128>,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        per(self.writes, 1) / self.wall.as_secs_f64()
    }

    /// Latency below which `percent` of the writes were.
    pub(crate) fn percentile(&self, percent: usize) -> u128 {
        let at = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

/// A ratio of counts.
pub(crate) fn per(count: u64, whole: u64) -> f64 {
    let float = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    float(count) / float(whole.max(1))
}

/// `writes` writes by `writers` tasks, each waiting for its own answer before the next. `write` gets the number of the
/// writer and of the write. The first failure ends the run.
pub(crate) fn run<W, F>(runtime: &Runtime, writers: usize, writes: u64, write: W) -> anyhow::Result<Outcome>
where
    W: Fn(usize, u64) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), tonic::Status>> + Send,
{
    let write = Arc::new(write);
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let latencies = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for writer in 0..writers {
            let (write, next) = (Arc::clone(&write), Arc::clone(&next));
            tasks.spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= writes {
                        return Ok::<_, tonic::Status>(latencies);
                    }
                    let begin = Instant::now();
                    write(writer, number).await?;
                    latencies.push(begin.elapsed().as_micros());
                }
            });
        }
        let mut all = Vec::new();
        while let Some(task) = tasks.join_next().await {
            all.extend(task??);
        }
        Ok::<_, anyhow::Error>(all)
    });
    let wall = begin.elapsed();
    let mut latencies = latencies?;
    latencies.sort_unstable();
    Ok(Outcome { writes, wall, latencies })
}

/// One change through the API: a service is declared anew, a 256-byte label set with it; nobody carries it. Idempotency
/// record, audit record and state all change.
pub(crate) async fn declare(channel: Channel, writer: usize, number: u64) -> Result<(), tonic::Status> {
    let labels = (0..4).map(|n| (format!("label{n}"), format!("{number:0>52}")));
    let spec = ServiceSpec {
        name: format!("bench-{writer}"),
        driver: Some(Driver { kind: Some(driver::Kind::Process("bench".to_owned())) }),
        nodes: Some(Selector { names: vec!["nobody".to_owned()], ..Default::default() }),
        labels: labels.collect(),
        ..Default::default()
    };
    let request = ApplyServiceRequest { spec: Some(spec), options: change() };
    let answer = GroupServiceClient::new(channel).apply_service(request).await?.into_inner();
    if answer.changed { Ok(()) } else { Err(tonic::Status::internal("nothing was written")) }
}
