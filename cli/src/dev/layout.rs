//! Where everything of a fleet stands under DIR, and how its files are written.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Longest path of a Unix socket: 108 bytes with the closing zero (`unix(7)`).
const MAX_SOCKET_PATH: usize = 107;

/// The places under one fleet's DIR.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Creates DIR (0700) if needed and returns its layout; the path is absolute and free of links.
    pub(super) fn create(dir: &Path) -> anyhow::Result<Self> {
        make_private(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Self::open(dir)
    }

    /// The layout of an existing DIR.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.canonicalize().with_context(|| format!("there is no fleet in {}", dir.display()))?;
        if dir.to_str().is_none() {
            bail!("{}: the path must be UTF-8, it is written into TOML files", dir.display());
        }
        Ok(Self { dir })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn fleet_file(&self) -> PathBuf {
        self.dir.join("fleet.json")
    }

    pub(super) fn cli_config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// Held locked by the supervisor as long as it lives.
    pub(super) fn lock_file(&self) -> PathBuf {
        self.dir.join("supervisor.lock")
    }

    pub(super) fn supervisor_log(&self) -> PathBuf {
        self.dir.join("supervisor.log")
    }

    pub(super) fn admin(&self) -> PathBuf {
        self.dir.join("admin")
    }

    pub(super) fn coordinator(&self, name: &str) -> PathBuf {
        self.dir.join("coordinators").join(name)
    }

    pub(super) fn agent(&self, node: &str) -> PathBuf {
        self.dir.join("agents").join(node)
    }

    /// The data directory of an instance: `starts.log` and `misbehave` are in it, the log is not (a backup of a
    /// directory whose log grows meanwhile would never be consistent).
    pub(super) fn instance(&self, service: &str, node: &str) -> PathBuf {
        self.dir.join("services").join(service).join(node)
    }

    /// Where the releases of an instance's program lie, one folder each, and the link `current` to the one in use.
    pub(super) fn instance_app(&self, service: &str, node: &str) -> PathBuf {
        self.dir.join("apps").join(service).join(node)
    }

    pub(super) fn instance_config(&self, service: &str, node: &str) -> PathBuf {
        self.dir.join("services").join(service).join(format!("{node}.toml"))
    }

    pub(super) fn instance_logs(&self, service: &str, node: &str) -> PathBuf {
        self.dir.join("logs").join(service).join(node)
    }

    /// The helper's socket: in the agent's folder, or under a short private folder when that path is too long.
    pub(super) fn helper_socket(&self, node: &str) -> anyhow::Result<PathBuf> {
        let near = self.agent(node).join("helper.sock");
        if near.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(near);
        }
        let short = self.short_dir();
        make_private(&short).with_context(|| format!("cannot create {}", short.display()))?;
        let far = short.join(format!("{node}.sock"));
        if far.as_os_str().len() > MAX_SOCKET_PATH {
            bail!(
                "no path short enough for a Unix socket: {} has more than {MAX_SOCKET_PATH} bytes",
                far.display()
            );
        }
        Ok(far)
    }

    /// Outside of DIR, but named by it: the same DIR finds the same folder, two DIRs never share one.
    pub(super) fn short_dir(&self) -> PathBuf {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
        let base = runtime.unwrap_or_else(|| PathBuf::from("/tmp"));
        let name = crc32c::crc32c(self.dir.as_os_str().as_encoded_bytes());
        base.join(format!("quorate-dev-{}-{name:08x}", rustix::process::getuid().as_raw()))
    }
}

/// DIR when none is given: `$XDG_STATE_HOME/quorate/dev`, else `~/.local/state/quorate/dev`.
pub(super) fn default_dir() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    Ok(state.context("neither XDG_STATE_HOME nor HOME is set: say --dir DIR")?.join("quorate/dev"))
}

/// Creates a folder (0700) with its parents. One that exists must be ours alone: other people could plant sockets in it.
pub(super) fn make_private(dir: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let stat = rustix::fs::stat(dir)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        bail!("{} belongs to another user", dir.display());
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    Ok(())
}

/// Temporary file, fsync, rename: a reader sees the old or the new file, never a half one.
pub(super) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    // A leftover of a crash may have another mode.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_dir_gets_a_short_socket_of_its_own() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let shallow = Layout::create(&base.path().join("d")).expect("create");
        assert!(shallow.helper_socket("node1").expect("a path").starts_with(shallow.dir()));
        let deep = Layout::create(&base.path().join("x".repeat(90))).expect("create");
        let other = Layout::create(&base.path().join("y".repeat(90))).expect("create");
        let socket = deep.helper_socket("node1").expect("a path");
        assert!(socket.as_os_str().len() <= MAX_SOCKET_PATH && !socket.starts_with(deep.dir()));
        assert_ne!(socket, other.helper_socket("node1").expect("a path"));
        let mode = std::fs::metadata(deep.short_dir()).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        for layout in [deep, other] {
            std::fs::remove_dir_all(layout.short_dir()).expect("remove");
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let path = base.path().join("secret");
        std::fs::write(base.path().join("secret.tmp"), b"leftover").expect("write");
        write_atomically(&path, b"one", 0o600).expect("write");
        write_atomically(&path, b"two", 0o600).expect("write");
        assert_eq!(std::fs::read(&path).expect("read"), b"two");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
