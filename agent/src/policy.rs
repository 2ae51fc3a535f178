//! The host's own `[policy]`: what may be done here, whoever asks. Pure; the last word before an effect.
//!
//! Must never: allow what is not listed, or be changed by anything that came over the network.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use globset::GlobMatcher;
use minisign_verify::PublicKey;
use quorate_model::{
    ActionKind, ActionSpec, Driver, HookName, Install, SecretSource, SecretSpec, ServiceName,
};

use crate::config::{Wrong, absolute, wrong};
use crate::host::fetch::{HttpTarget, http_target};

/// Most keys that are pinned: each is tried against a signature.
const KEYS_MAX: usize = 32;
/// Longest name of a key; it is told as the one who signed.
const KEY_NAME_MAX_BYTES: usize = 64;

/// What may be installed here, and whose word is needed for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstallRules {
    /// Folders below which releases are laid out.
    pub dirs: Vec<PathBuf>,
    /// Packages that may be installed.
    pub packages: BTreeSet<String>,
    /// Trusted minisign public keys by name, as the one line that `minisign -G` prints. Each was read once and is good.
    pub keys: BTreeMap<String, String>,
    /// Folders below which configuration files may be replaced.
    pub configs: Vec<PathBuf>,
    /// Folders below which secrets are kept, and the next ones lie.
    pub secrets: Vec<PathBuf>,
    /// An artifact without any signature may be installed.
    pub unsigned: bool,
}

/// What the host lets be done.
#[derive(Clone, Debug)]
pub struct Policy {
    actions: BTreeSet<ActionKind>,
    services: Option<BTreeSet<ServiceName>>,
    units: Vec<GlobMatcher>,
    paths: Vec<PathBuf>,
    hooks: BTreeSet<HookName>,
    run_hooks: BTreeSet<HookName>,
    probes: Vec<PathBuf>,
    backup_dir: PathBuf,
    install: InstallRules,
    alertmanagers: Vec<Alertmanager>,
}

/// An Alertmanager that may be told of silences.
#[derive(Clone, Debug)]
struct Alertmanager {
    target: HttpTarget,
    any_port: bool,
}

fn folders(field: &str, paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, Wrong> {
    paths.into_iter().map(|path| absolute(field, path)).collect()
}

/// `http://host:port`, below a path if need be; `*` is any port of that host.
fn alertmanager(url: String) -> Result<Alertmanager, Wrong> {
    let bad = |why: String| wrong("policy.alertmanagers", why);
    let (concrete, any_port) = match url.split_once(":*") {
        Some((host, rest)) if rest.is_empty() || rest.starts_with('/') => (format!("{host}{rest}"), true),
        Some(_) => return Err(bad(format!("{url:?}: after the port comes a path"))),
        None => (url, false),
    };
    if concrete.contains(['*', '?', '#']) {
        return Err(bad(format!("{concrete:?} is no address of an Alertmanager")));
    }
    Ok(Alertmanager { target: http_target(&concrete).map_err(bad)?, any_port })
}

impl Policy {
    pub(crate) fn new(raw: crate::config::RawPolicy, data_dir: &Path) -> Result<Self, Wrong> {
        let crate::config::RawPolicy {
            actions,
            services,
            units,
            paths,
            hooks,
            run_hooks,
            probes,
            backup_dir,
            install,
            packages,
            configs,
            secrets,
            keys,
            unsigned,
            alertmanagers,
        } = raw;
        let mut allowed = BTreeSet::new();
        for word in &actions {
            let before = allowed.len();
            allowed.extend(ActionKind::ALL.iter().copied().filter(|kind| matches_action(word, *kind)));
            let known = ActionKind::ALL.iter().any(|kind| matches_action(word, *kind));
            if !known && allowed.len() == before {
                return Err(wrong(
                    "policy.actions",
                    format!("{word:?} is no action and no family of actions"),
                ));
            }
        }
        let any_service = services.iter().any(|name| name == "*");
        let named = services
            .iter()
            .filter(|name| *name != "*")
            .map(|name| ServiceName::new(name.as_str()).map_err(|e| wrong("policy.services", e.to_string())));
        let named = named.collect::<Result<BTreeSet<_>, _>>()?;
        let units = units.iter().map(|glob| {
            globset::Glob::new(glob)
                .map(|g| g.compile_matcher())
                .map_err(|e| wrong("policy.units", e.to_string()))
        });
        let hooks = hook_names("policy.hooks", hooks)?;
        let run_hooks = hook_names("policy.run_hooks", run_hooks)?;
        if let Some(hook) = run_hooks.difference(&hooks).next() {
            return Err(wrong("policy.run_hooks", format!("{hook} is not among policy.hooks")));
        }
        let backup_dir =
            backup_dir.map_or_else(|| Ok(data_dir.join("backups")), |dir| absolute("policy.backup_dir", dir));
        let alertmanagers = alertmanagers.into_iter().map(alertmanager).collect::<Result<_, _>>()?;
        Ok(Self {
            actions: allowed,
            alertmanagers,
            services: (!any_service).then_some(named),
            units: units.collect::<Result<_, _>>()?,
            paths: folders("policy.paths", paths)?,
            hooks,
            run_hooks,
            probes: folders("policy.probes", probes)?,
            backup_dir: backup_dir?,
            install: InstallRules {
                dirs: folders("policy.install", install)?,
                packages: packages.into_iter().map(package_name).collect::<Result<_, _>>()?,
                secrets: folders("policy.secrets", secrets)?,
                configs: folders("policy.configs", configs)?,
                keys: trusted(keys)?,
                unsigned,
            },
        })
    }

    /// Whether an action may be done; the sentence says what is missing.
    ///
    /// # Errors
    /// One sentence for the operator.
    pub fn allows(&self, action: &ActionSpec) -> Result<(), String> {
        let kind = action.kind();
        if !self.actions.contains(&kind) {
            return Err(format!("[policy] actions of this host does not list {kind}"));
        }
        if let Some(service) = action.service() {
            self.allows_service(service)?;
        }
        match action {
            ActionSpec::BackupCreate { policy, .. } => {
                for path in &policy.paths {
                    self.allows_path(Path::new(path))?;
                }
                for hook in policy.pause.iter().chain(&policy.resume) {
                    self.allows_hook(hook)?;
                }
                Ok(())
            }
            ActionSpec::Data { paths, .. } => {
                paths.iter().try_for_each(|path| self.allows_data(Path::new(path)))
            }
            ActionSpec::LogRotate { policy, .. } => {
                policy.paths.iter().try_for_each(|glob| self.allows_path(Path::new(glob)))
            }
            ActionSpec::ServiceStatus { .. }
            | ActionSpec::ServiceStart { .. }
            | ActionSpec::ServiceStop { .. }
            | ActionSpec::ServiceRestart { .. }
            | ActionSpec::ServiceReload { .. }
            | ActionSpec::BackupVerify { .. }
            | ActionSpec::TrafficDrain { .. }
            | ActionSpec::TrafficRestore { .. }
            | ActionSpec::HostFacts
            | ActionSpec::HostDiagnose => Ok(()),
            ActionSpec::ExecRun { hook, .. } | ActionSpec::RolePromote { hook, .. } => self.allows_run(hook),
            ActionSpec::MaintenanceEnter { maintenance, .. }
            | ActionSpec::MaintenanceExit { maintenance, .. } => {
                let silence = maintenance.silence.as_ref();
                silence.map_or(Ok(()), |silence| self.allows_alertmanager(&silence.url))?;
                if maintenance.file.is_empty() {
                    Ok(())
                } else {
                    self.allows_path(Path::new(&maintenance.file))
                }
            }
            ActionSpec::HostPreflight { ahead_of, release, backup, .. } => {
                // What comes next is refused now, while nothing is changed.
                let next = [(*ahead_of, true), (ActionKind::BackupCreate, *backup)];
                match next.iter().find(|(kind, asked)| *asked && !self.actions.contains(kind)) {
                    Some((kind, _)) => Err(format!("[policy] actions of this host does not list {kind}")),
                    None => release.as_ref().map_or(Ok(()), |release| self.allows_install(&release.install)),
                }
            }
            ActionSpec::ArtifactStage { release, .. }
            | ActionSpec::ArtifactActivate { release, .. }
            | ActionSpec::ArtifactRevert { release, .. }
            | ActionSpec::ConfigConfirm { release, .. } => self.allows_install(&release.install),
            ActionSpec::Secret { secret, .. } => self.allows_secret(secret),
        }
    }

    /// Whether an Alertmanager may be told of silences.
    ///
    /// # Errors
    /// One sentence.
    pub fn allows_alertmanager(&self, url: &str) -> Result<(), String> {
        let wanted = http_target(url)?;
        let listed = |allowed: &Alertmanager| {
            allowed.target.host.eq_ignore_ascii_case(&wanted.host)
                && (allowed.any_port || allowed.target.port == wanted.port)
                && allowed.target.path.trim_end_matches('/') == wanted.path.trim_end_matches('/')
        };
        if self.alertmanagers.iter().any(listed) {
            return Ok(());
        }
        Err(format!("[policy] alertmanagers of this host does not list {url}"))
    }

    /// Whether a service may be touched or looked at.
    ///
    /// # Errors
    /// One sentence.
    pub fn allows_service(&self, service: &ServiceName) -> Result<(), String> {
        match &self.services {
            Some(named) if !named.contains(service) => {
                Err(format!("[policy] services of this host does not list {service}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a service may stand for this unit: without a rule only for the unit of its own name, so that a coordinator
    /// can not call `sshd.service` "ledger". What a process driver's name runs is declared on the host anyway.
    ///
    /// # Errors
    /// One sentence.
    pub fn allows_driver(&self, service: &ServiceName, driver: &Driver) -> Result<(), String> {
        self.allows_service(service)?;
        match driver {
            Driver::Process { .. } => Ok(()),
            Driver::Systemd { unit } => {
                let own = unit.strip_suffix(".service") == Some(service.as_str());
                if own || self.units.iter().any(|glob| glob.is_match(unit)) {
                    return Ok(());
                }
                Err(format!("[policy] units of this host lets {service} not stand for {unit}"))
            }
        }
    }

    /// Whether a hook may be run.
    ///
    /// # Errors
    /// One sentence.
    pub fn allows_hook(&self, hook: &HookName) -> Result<(), String> {
        if self.hooks.contains(hook) {
            return Ok(());
        }
        Err(format!("[policy] hooks of this host does not list {hook}"))
    }

    /// Whether a hook may be run for its own sake (`exec.run`), and not only around something else.
    fn allows_run(&self, hook: &HookName) -> Result<(), String> {
        self.allows_hook(hook)?;
        if self.run_hooks.contains(hook) {
            return Ok(());
        }
        Err(format!("[policy] run_hooks of this host does not list {hook}"))
    }

    /// Whether a program may be run as a probe: the exact path of a list entry.
    ///
    /// # Errors
    /// One sentence.
    pub fn allows_probe(&self, argv: &[String]) -> Result<(), String> {
        match argv.first() {
            Some(program) if self.probes.iter().any(|allowed| allowed.as_os_str() == program.as_str()) => {
                Ok(())
            }
            Some(_) | None => Err("[policy] probes of this host does not list this program".to_owned()),
        }
    }

    /// Whether a path, by its text alone, lies under an allowed root. The action opens it below that root without
    /// following links; this only refuses early.
    ///
    /// # Errors
    /// One sentence.
    pub fn allows_path(&self, path: &Path) -> Result<(), String> {
        if is_plain(path) && self.paths.iter().any(|root| path.starts_with(root)) {
            return Ok(());
        }
        Err(format!("[policy] paths of this host has no root for {}", path.display()))
    }

    /// Whether a folder may be put aside: below a root, and no root itself, nor above one.
    fn allows_data(&self, path: &Path) -> Result<(), String> {
        self.allows_path(path)?;
        match self.paths.iter().find(|root| root.starts_with(path)) {
            None => Ok(()),
            Some(root) => {
                Err(format!("{} is, or holds, a root of this host's [policy] paths", root.display()))
            }
        }
    }

    /// Whether the places and the hooks of a secret are listed.
    fn allows_secret(&self, secret: &SecretSpec) -> Result<(), String> {
        self.allows_hook(&secret.confirm)?;
        let candidate = match &secret.source {
            SecretSource::Candidate(path) => Some(path),
            SecretSource::Generate(hook) => {
                self.allows_hook(hook)?;
                None
            }
        };
        for place in [Some(&secret.file), Some(&secret.previous), candidate].into_iter().flatten() {
            let path = Path::new(place);
            if !is_plain(path) || !self.install.secrets.iter().any(|root| path.starts_with(root)) {
                return Err(format!("[policy] secrets of this host has no folder for {place}"));
            }
        }
        Ok(())
    }

    /// Whether something may be installed there. Who must have signed it is looked at with its bytes.
    fn allows_install(&self, install: &Install) -> Result<(), String> {
        match install {
            Install::Binary { dir, file: _ } | Install::Archive { dir } => {
                let path = Path::new(dir);
                if is_plain(path) && self.install.dirs.iter().any(|root| path.starts_with(root)) {
                    return Ok(());
                }
                Err(format!("[policy] install of this host has no folder for {dir}"))
            }
            Install::Config(spec) => {
                if let Some(hook) = &spec.check {
                    self.allows_hook(hook)?;
                }
                let path = Path::new(&spec.path);
                if is_plain(path) && self.install.configs.iter().any(|root| path.starts_with(root)) {
                    return Ok(());
                }
                Err(format!("[policy] configs of this host has no folder for {}", spec.path))
            }
            Install::Package { package } if self.install.packages.contains(package) => Ok(()),
            Install::Package { package } => {
                Err(format!("[policy] packages of this host does not list {package}"))
            }
        }
    }

    /// What may be installed here.
    #[must_use]
    pub fn install(&self) -> &InstallRules {
        &self.install
    }

    /// Roots of backups and logs.
    #[must_use]
    pub fn roots(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Where backups are kept.
    #[must_use]
    pub fn backup_dir(&self) -> &Path {
        &self.backup_dir
    }
}

fn hook_names(field: &str, names: Vec<String>) -> Result<BTreeSet<HookName>, Wrong> {
    names.into_iter().map(|name| HookName::new(name).map_err(|e| wrong(field, e.to_string()))).collect()
}

/// Absolute, and without a step back.
fn is_plain(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

/// As Debian's policy 5.6.7 has it, so that none is ever taken for an option or a version.
fn package_name(name: String) -> Result<String, Wrong> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.');
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if (2..=128).contains(&name.len()) && begins && name.bytes().all(fits) {
        return Ok(name);
    }
    Err(wrong("policy.packages", format!("{name:?} is no name of a package")))
}

/// Keys that can be used; a mistake in one is found when the file is read, not when a release is refused.
fn trusted(keys: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Wrong> {
    if keys.len() > KEYS_MAX {
        return Err(wrong("policy.keys", format!("{} keys, {KEYS_MAX} is the limit", keys.len())));
    }
    for (name, key) in &keys {
        let field = format!("policy.keys.{name}");
        if name.is_empty() || name.len() > KEY_NAME_MAX_BYTES || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong(
                "policy.keys",
                format!("{name:?} is no name of 1 to {KEY_NAME_MAX_BYTES} letters"),
            ));
        }
        PublicKey::from_base64(key)
            .map_err(|_| wrong(field, "it is no minisign public key, the line that begins with RW"))?;
    }
    Ok(keys)
}

fn matches_action(word: &str, kind: ActionKind) -> bool {
    match word.strip_suffix('*') {
        Some("") => true,
        Some(family) => family.ends_with('.') && kind.as_str().starts_with(family),
        None => kind.as_str() == word,
    }
}

#[cfg(test)]
mod tests;
