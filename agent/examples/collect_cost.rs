//! Prints what one collection of host metrics costs, in CPU time: `cargo run --release --example collect_cost`.
//! node_exporter takes 1.7 to 6.7 ms of CPU per scrape on an ordinary host.

use std::path::Path;

use quorate_agent::facts::{Collector, host_facts, render};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: i64 = 200;

fn cpu_us() -> i64 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec * 1_000_000 + t.tv_nsec / 1_000
}

fn main() {
    let mut collector = Collector::default();
    let mut text = String::new();
    let samples = collector.collect(&[]).samples.len();
    let began = cpu_us();
    for _ in 0..ROUNDS {
        text.clear();
        render(&collector.collect(&[]).samples, &mut text);
    }
    let each = (cpu_us() - began) / ROUNDS;
    println!(
        "metrics: {samples} samples, {} bytes, {}.{:03} ms CPU each",
        text.len(),
        each / 1_000,
        each % 1_000
    );
    let began = cpu_us();
    for _ in 0..ROUNDS {
        let _ = host_facts(Path::new("/"));
    }
    let each = (cpu_us() - began) / ROUNDS;
    println!("facts: {}.{:03} ms CPU each", each / 1_000, each % 1_000);
}
