//! What durability and being idle cost, measured on real processes with release builds:
//!
//! ```text
//! cargo bench -p quorate-tests --bench durability                    # everything but etcd
//! cargo bench -p quorate-tests --bench durability -- writes          # (a) barriers and writes
//! cargo bench -p quorate-tests --bench durability -- etcd=/usr/bin/etcd   # (a) for etcd, same client, same TLS
//! cargo bench -p quorate-tests --bench durability -- restart         # (b) a member with 20,000 entries
//! cargo bench -p quorate-tests --bench durability -- idle            # (c) memory of an idle fleet
//! ```
//!
//! Prints figures beside their targets and fails on none: a slow machine is not a defect. Counts carry over between
//! machines, times do not; compare those side by side only.

mod counts;
mod etcd;
mod fleet;
mod idle;
mod load;
mod restart;
mod writes;

use std::path::Path;

use anyhow::bail;

fn main() -> anyhow::Result<()> {
    quorate_common::tls::install();
    // cargo adds --bench.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // Channels are made outside of tasks.
    let _inside = runtime.enter();
    let all = ["writes", "restart", "idle"].map(str::to_owned);
    let parts = if wanted.is_empty() { all.to_vec() } else { wanted };
    println!("machine: {} cores, load {}", std::thread::available_parallelism()?, load_average());
    for part in parts {
        match part.as_str() {
            "writes" => writes::run(&runtime)?,
            "restart" => restart::run(&runtime)?,
            "idle" => idle::run()?,
            other => match other.strip_prefix("etcd=") {
                Some(program) => etcd::run(&runtime, Path::new(program))?,
                None => bail!("unknown part {other:?}: writes, restart, idle, etcd=PROGRAM"),
            },
        }
    }
    Ok(())
}

/// Of the last minute: what else ran.
fn load_average() -> f32 {
    use procfs::Current as _;
    procfs::LoadAverage::current().map_or(f32::NAN, |load| load.one)
}
