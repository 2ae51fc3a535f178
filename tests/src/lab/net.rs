//! The hosts' network: one bridge in the lab's own network namespace.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Name of the bridge; it is alone in its namespace.
pub(super) const BRIDGE: &str = "lab";
/// The bridge's own address, from which the tests ask.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The bridge. It goes with the namespace.
#[derive(Debug)]
pub(super) struct Bridge;

impl Bridge {
    pub(super) fn create() -> anyhow::Result<Self> {
        // A lab that was booted before in the same namespace has left it.
        drop(run("ip", &["link", "delete", BRIDGE]));
        run("ip", &["link", "set", "lo", "up"])?;
        run("ip", &["link", "add", BRIDGE, "type", "bridge"])?;
        run("ip", &["address", "add", &format!("{OWN}/24"), "dev", BRIDGE])?;
        run("ip", &["link", "set", BRIDGE, "up"])?;
        Ok(Self)
    }

    #[expect(clippy::unused_self, reason = "only who has made the bridge may ask for its address")]
    pub(super) const fn address(&self) -> Ipv4Addr {
        OWN
    }
}

/// Address of the host at this place.
pub(super) fn address(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(at + 11).expect("a lab has fewer than 200 hosts"))
}

/// Pulls a host's plug out of the bridge, or puts it back: what is sent is lost, and nobody is told.
///
/// # Errors
/// When the host has no link.
pub(super) fn plug(host: &str, plugged: bool) -> anyhow::Result<()> {
    // The name that systemd-nspawn gives to our end.
    let link = format!("vb-{host}");
    if plugged {
        run("ip", &["link", "set", &link, "master", BRIDGE])
    } else {
        run("ip", &["link", "set", &link, "nomaster"])
    }
}

/// Takes away the link that a host of this name left behind: the kernel may take its time after the host's end.
pub(super) fn unlink(host: &str) {
    drop(run("ip", &["link", "delete", &format!("vb-{host}")]));
}

/// Runs a program of this machine.
///
/// # Errors
/// Its last words.
pub(super) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), said.trim());
    Ok(())
}
