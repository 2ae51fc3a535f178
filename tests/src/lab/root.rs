//! The root that every host boots from: a small Debian, made once and never written again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use super::inside::Ground;
use super::net::run;

/// What a host has beside Debian's minimum: systemd and its bus, and what the guides' commands and loops use.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,iptables,procps,curl,ca-certificates,logrotate,openssl,zstd,openssh-server";
/// Debian 12, as the machines that are built for.
const SUITE: &str = "bookworm";
/// Where the root lies, unless told: outside the project, so that it outlives a clean tree.
const CACHE: &str = "/var/cache/quorate-lab";
/// Gives a host its address when it boots, from a file that the lab writes.
const NETWORK_UNIT: &str = "[Unit]\nDescription=The host's address on the lab's bridge\nDefaultDependencies=no\n\
    Before=network-pre.target network.target network-online.target\nWants=network-pre.target\n\
    [Service]\nType=oneshot\nRemainAfterExit=yes\nEnvironmentFile=/etc/lab-address\n\
    ExecStart=/usr/sbin/ip link set host0 up\nExecStart=/usr/sbin/ip address replace ${ADDRESS}/24 dev host0\n\
    [Install]\nWantedBy=sysinit.target\n";

/// The directory of root and hosts.
pub(super) fn cache() -> PathBuf {
    std::env::var_os("QUORATE_LAB_CACHE").map_or_else(|| PathBuf::from(CACHE), PathBuf::from)
}

/// Where the root of this recipe lies: another recipe, another root.
pub(super) fn place() -> PathBuf {
    let digest = Sha256::digest([SUITE, PACKAGES].join("\n"));
    let mut name = format!("{SUITE}-");
    for byte in digest.iter().take(4) {
        let _ = write!(name, "{byte:02x}");
    }
    cache().join(name)
}

/// Makes it, if it is not there.
///
/// # Errors
/// What debootstrap says; a half-made root has another name and is removed.
pub(super) fn build() -> anyhow::Result<()> {
    let place = place();
    if place.exists() {
        return Ok(());
    }
    let aside = place.with_extension(std::process::id().to_string());
    fs::create_dir_all(&aside).with_context(|| format!("create {}", aside.display()))?;
    let made = fill(&aside);
    if made.is_err() {
        // The reason matters more than what is left.
        drop(fs::remove_dir_all(&aside));
    }
    made?;
    fs::rename(&aside, &place).with_context(|| format!("rename to {}", place.display()))
}

fn fill(aside: &Path) -> anyhow::Result<()> {
    eprintln!("building the hosts' root in {}; once", aside.display());
    let output = Command::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE])
        .arg(aside)
        .output()
        .context("debootstrap")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "debootstrap: {}", said.lines().last().unwrap_or_default());
    Ok(())
}

/// What all hosts of one lab have in common beside the root: a layer over it. Returns both as overlayfs wants them.
///
/// # Errors
/// When it can not be written.
pub(super) fn share(
    ground: &Ground,
    dir: &Path,
    addresses: &BTreeMap<String, Ipv4Addr>,
) -> anyhow::Result<String> {
    let layer = dir.join("common");
    let put = |path: &str, text: &[u8], mode: u32| -> anyhow::Result<()> {
        let place = layer.join(path);
        fs::create_dir_all(place.parent().context("a file is in a folder")?)?;
        fs::write(&place, text).with_context(|| format!("write {}", place.display()))?;
        Ok(fs::set_permissions(&place, fs::Permissions::from_mode(mode))?)
    };
    let hosts: String = addresses.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
    put("etc/hosts", format!("127.0.0.1 localhost\n{hosts}").as_bytes(), 0o644)?;
    // For programs of this machine, too; only in the lab's own mount namespace.
    run("mount", &["--bind", &layer.join("etc/hosts").to_string_lossy(), "/etc/hosts"])?;
    // No way leads to Debian's archive from here: what is asked of it ends at once and well.
    put("etc/apt/sources.list", b"", 0o644)?;
    // Each host makes its own.
    put("etc/machine-id", b"", 0o444)?;
    put("etc/systemd/system/lab-network.service", NETWORK_UNIT.as_bytes(), 0o644)?;
    let wants = layer.join("etc/systemd/system/sysinit.target.wants");
    fs::create_dir_all(&wants)?;
    symlink("../lab-network.service", wants.join("lab-network.service"))?;
    // Units that wait for a console which no container has.
    for unit in ["console-getty.service", "getty@tty1.service", "systemd-networkd-wait-online.service"] {
        symlink("/dev/null", layer.join("etc/systemd/system").join(unit))?;
    }
    // Journals survive a reboot.
    fs::create_dir_all(layer.join("var/log/journal"))?;
    keys(&layer, &ground.root, addresses, &put)?;
    let packages = layer.join("root");
    for package in &ground.packages {
        let name = package.file_name().context("a package has a name")?;
        fs::copy(package, packages.join(name)).with_context(|| format!("copy {}", package.display()))?;
    }
    put("usr/local/bin/ledger", &fs::read(&ground.sample)?, 0o755)?;
    Ok(format!("{}:{}", layer.display(), ground.root.display()))
}

/// Writes a file of the layer: its path, content and mode.
type Put<'a> = dyn Fn(&str, &[u8], u32) -> anyhow::Result<()> + 'a;

/// Every host reaches every other by ssh as root and knows it already.
fn keys(
    layer: &Path,
    root: &Path,
    addresses: &BTreeMap<String, Ipv4Addr>,
    put: &Put<'_>,
) -> anyhow::Result<()> {
    let ssh = layer.join("root/.ssh");
    fs::create_dir_all(&ssh)?;
    fs::set_permissions(layer.join("root"), fs::Permissions::from_mode(0o700))?;
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700))?;
    let key = ssh.join("id_ed25519");
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key.to_string_lossy()])?;
    let own = fs::read(ssh.join("id_ed25519.pub"))?;
    put("root/.ssh/authorized_keys", &own, 0o600)?;
    // The root was made once, and its sshd's key with it: all hosts have that one.
    let theirs = fs::read_to_string(root.join("etc/ssh/ssh_host_ed25519_key.pub")).context("sshd's key")?;
    let theirs: Vec<&str> = theirs.split_whitespace().take(2).collect();
    let known: String = addresses.keys().map(|name| format!("{name} {}\n", theirs.join(" "))).collect();
    put("etc/ssh/ssh_known_hosts", known.as_bytes(), 0o644)
}
