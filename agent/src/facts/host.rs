//! Facts: what this host is.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use quorate_model::Timestamp;
use quorate_model::node::Facts;
use sha2::{Digest, Sha256};

use super::disks;
use super::reader::{Reader, malformed};
use crate::host::exec::hex;

/// Most addresses told; a container host has hundreds of bridges nobody enrols by.
const ADDRESSES_MAX: usize = 64;
/// Makes the hash useless for finding the machine id itself, which systemd asks to keep confidential.
const MACHINE_ID_SALT: &[u8] = b"quorate machine id v1\0";

/// Collects the facts below `root` (`/` in production). What can not be read stays empty and is named in
/// `extra["facts.errors"]`.
#[must_use]
pub fn collect(root: &Path) -> Facts {
    let mut r = Reader::new(root);
    let mut errors: Vec<String> = Vec::new();
    let name = rustix::system::uname();
    let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
    let mut facts = Facts {
        hostname: text(name.nodename()),
        kernel: text(name.release()),
        arch: text(name.machine()),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Facts::default()
    };
    let mut or_default = |what: &str, e: io::Error| errors.push(format!("{what}: {e}"));
    os(&mut r).map_or_else(|e| or_default("os", e), |os| facts.os = os);
    boot(&mut r)
        .map_or_else(|e| or_default("boot", e), |(cpus, at)| (facts.cpus, facts.booted_at) = (cpus, at));
    memory(&mut r).map_or_else(|e| or_default("memory", e), |bytes| facts.memory_bytes = bytes);
    disks::mounted(&mut r).map_or_else(|e| or_default("disks", e), |disks| facts.disks = disks);
    addresses(&mut r).map_or_else(|e| or_default("addresses", e), |found| facts.addresses = found);
    match r.text("/proc/sys/kernel/random/boot_id") {
        Ok(id) => facts.boot_id = id.trim().to_owned(),
        Err(e) => or_default("boot id", e),
    }
    let mut extra = BTreeMap::new();
    if let Ok(id) = r.text("/etc/machine-id") {
        let digest = Sha256::new().chain_update(MACHINE_ID_SALT).chain_update(id.trim()).finalize();
        extra.insert("machine_id_hash".to_owned(), hex(&digest[..16]));
    }
    if !errors.is_empty() {
        extra.insert("facts.errors".to_owned(), errors.join("; "));
    }
    facts.extra = extra;
    facts
}

/// `PRETTY_NAME` of os-release(5).
fn os(r: &mut Reader) -> io::Result<String> {
    let path =
        if r.root().join("etc/os-release").exists() { "/etc/os-release" } else { "/usr/lib/os-release" };
    let text = r.text(path)?;
    let value = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='))?;
        let line = line.trim().trim_matches(['"', '\'']);
        Some(line.chars().filter(|c| !c.is_control()).take(128).collect::<String>())
    };
    value("PRETTY_NAME").or_else(|| value("NAME")).ok_or_else(|| malformed(path))
}

fn boot(r: &mut Reader) -> io::Result<(u32, Timestamp)> {
    let text = r.text("/proc/stat")?;
    let is_core =
        |l: &&str| l.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let cpus = text.lines().filter(is_core).count();
    let seconds = text.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse::<i64>().ok());
    let seconds = seconds.ok_or_else(|| malformed("/proc/stat"))?;
    Ok((u32::try_from(cpus).unwrap_or(u32::MAX), Timestamp(seconds.saturating_mul(1_000))))
}

fn memory(r: &mut Reader) -> io::Result<u64> {
    let text = r.text("/proc/meminfo")?;
    let kib = text.lines().find_map(|l| super::reader::first_number(l.strip_prefix("MemTotal:")?));
    Ok(kib.ok_or_else(|| malformed("/proc/meminfo"))?.saturating_mul(1024))
}

/// Addresses of the host, but for loopback and link-local ones, in order. The helper has no network of its own: the host's
/// tables are asked, not ours.
fn addresses(r: &mut Reader) -> io::Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let mut last = None;
    for line in r.net_table("fib_trie")?.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = last.filter(|a| !a.is_loopback() && !a.is_link_local())
        {
            found.push(address.to_string());
        }
    }
    // No such file: a kernel without IPv6.
    for line in r.net_table("if_inet6").unwrap_or_default().lines() {
        let bits = line.split_ascii_whitespace().next().and_then(|w| u128::from_str_radix(w, 16).ok());
        let address = bits.map(Ipv6Addr::from_bits);
        found.extend(
            address.filter(|a| !a.is_loopback() && !a.is_unicast_link_local()).map(|a| a.to_string()),
        );
    }
    found.sort();
    found.dedup();
    found.truncate(ADDRESSES_MAX);
    Ok(found)
}
