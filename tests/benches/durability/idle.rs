//! (c) Memory of an idle fleet: `quorate dev` with its sample service, 30 seconds later.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use quorate_tests::wait::every;
use quorate_tests::workspace::binaries;

use crate::counts::{Memory, cpu_seconds};
use crate::fleet::scratch;

const IDLE_SECONDS: u32 = 30;

/// A fleet of `quorate dev`; ended when dropped.
struct Dev<'a>(&'a Path);

impl Dev<'_> {
    fn quorate(&self, args: &[&str]) -> anyhow::Result<()> {
        let status = Command::new(binaries().join("quorate")).args(args).arg("--dir").arg(self.0).status()?;
        anyhow::ensure!(status.success(), "quorate {}: {status}", args.join(" "));
        Ok(())
    }
}

impl Drop for Dev<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.quorate(&["dev", "stop"]) {
            eprintln!("the fleet was left behind: {error:#}");
        }
    }
}

pub(crate) fn run() -> anyhow::Result<()> {
    let dir = scratch()?;
    let dev = Dev(dir.path());
    dev.quorate(&["dev", "--detach"])?;
    let text = std::fs::read_to_string(dir.path().join("fleet.json"))?;
    let fleet: serde_json::Value = serde_json::from_str(&text)?;
    let pids = pids(&fleet)?;
    println!("\n== (c) `quorate dev` with 3 coordinators and 5 agents, idle for {IDLE_SECONDS} s");
    let before = pids.iter().map(|(_, pid)| cpu_seconds(*pid)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut left = IDLE_SECONDS;
    every(Duration::from_secs(1), || {
        left -= 1;
        left > 0
    });
    let mut agent = (0, 0);
    for ((name, pid), before) in pids.iter().zip(before) {
        let memory = Memory::of(*pid)?;
        let cpu = (cpu_seconds(*pid)? - before) * 100.0 / f64::from(IDLE_SECONDS);
        let target = if name.starts_with("coord") { " (target < 60 MiB)" } else { "" };
        println!(
            "  {name:<18} RSS {:>5.1} MiB{target}, PSS {:>5.1}, anonymous {:>5.1}, {} threads, {cpu:.2}% of a core",
            mib(memory.rss),
            mib(memory.pss),
            mib(memory.anonymous),
            memory.threads
        );
        if name.starts_with("agent") {
            agent = (memory.rss, memory.pss);
        } else if name.starts_with("helper") {
            let (rss, pss) = (agent.0 + memory.rss, agent.1 + memory.pss);
            println!(
                "  {:<18} RSS {:>5.1} MiB, PSS {:>5.1} MiB (target < 15 MiB)",
                "  both together",
                mib(rss),
                mib(pss)
            );
        }
    }
    Ok(())
}

fn mib(kib: u64) -> f64 {
    crate::load::per(kib, 1024)
}

/// Names and pids, an agent followed by its helper.
fn pids(fleet: &serde_json::Value) -> anyhow::Result<Vec<(String, u32)>> {
    let list = |name: &str| fleet[name].as_array().with_context(|| format!("fleet.json has no {name}"));
    let pid = |value: &serde_json::Value| {
        value.as_u64().and_then(|pid| u32::try_from(pid).ok()).context("fleet.json has no pid there")
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
    let mut found = Vec::new();
    for member in list("coordinators")? {
        found.push((text(&member["name"]), pid(&member["pid"])?));
    }
    for agent in list("agents")? {
        let node = text(&agent["node"]);
        found.push((format!("agent of {node}"), pid(&agent["pid"])?));
        found.push((format!("helper of {node}"), pid(&agent["helper_pid"])?));
    }
    Ok(found)
}
