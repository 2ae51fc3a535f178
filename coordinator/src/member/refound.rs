//! Beginning again when the majority is gone: `position` shows what a stopped member holds, `recover` lets one survivor go
//! on alone, `restore` makes a first member from a saved state.
//!
//! Must never: change anything of a member that runs, throw away what it replaces, or let a lost member back in: each one's
//! number is out, its certificates are revoked, and grants that it may still hand out are older than the first new one.

use std::path::{Path, PathBuf};

use quorate_common::saved::{self, SAVED_MAX_BYTES, SavedError, SavedHeader};
use quorate_common::tls::{CertificateAuthority, LeafSpec, LiveTls, Store};
use quorate_core::command::{ClusterCommand, NewCertificate};
use quorate_core::{Command, Entry, State};
use quorate_durable::files;
use quorate_model::{MemberId, Principal};

use super::birth::{BirthError, issue, private_dir, unused, write_alone};
use super::{clock, now, store_dirs, store_options, tls_dir};
use crate::config::Config;
use crate::raft::{self, Position, Standing, StartError};
use crate::store::{self, Identity, StoreDirs};

/// Why nothing began again.
#[derive(Debug, thiserror::Error)]
pub enum RefoundError {
    /// As for any member that is made.
    #[error(transparent)]
    Birth(#[from] BirthError),
    /// The store could not be read or made.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is no member here.
    #[error("there is no member in {}: nothing can be read from it", .0.display())]
    NotBorn(PathBuf),
    /// It runs.
    #[error("{} is in use: stop this member first", .0.display())]
    Running(PathBuf),
    /// Its state was found to be another one than that of its fellows.
    #[error(
        "the state of this member was found to differ from the others' (I-7): go on with another survivor"
    )]
    Diverged,
    /// Another name was typed.
    #[error("this is a member of the cluster {found:?}, not of {given:?}; nothing was changed")]
    Name {
        /// What was typed.
        given: String,
        /// What it is called.
        found: String,
    },
    /// It was taken out before.
    #[error("member {0} was taken out of the cluster: go on with another survivor")]
    Removed(MemberId),
    /// The file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What is in the file.
    #[error("{} cannot be used", path.display())]
    Saved {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: SavedError,
    },
    /// What the file says of itself.
    #[error("{} does not fit together: {why}", path.display())]
    Header {
        /// Which.
        path: PathBuf,
        /// What does not fit.
        why: &'static str,
    },
    /// The wrong certificate authority.
    #[error("the CA in {} is not the one that the saved cluster trusts", .0.display())]
    OtherCa(PathBuf),
}

impl RefoundError {
    /// Exit code of the process: 74 for the store, 2 for input, 1 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Birth(error) => error.exit_code(),
            Self::Start(StartError::Store(refused)) => refused.exit_code(),
            Self::NotBorn(_)
            | Self::Name { .. }
            | Self::File { .. }
            | Self::Saved { .. }
            | Self::Header { .. }
            | Self::OtherCa(_) => 2,
            Self::Start(_) | Self::Running(_) | Self::Diverged | Self::Removed(_) => 1,
        }
    }
}

/// A stopped member, and what it holds.
#[derive(Debug)]
pub struct Survivor {
    /// Its number.
    pub member: MemberId,
    /// Its name, as the state has it.
    pub name: String,
    /// Its cluster's name.
    pub cluster: String,
    /// Where it stands.
    pub position: Position,
    standing: Standing<State>,
    identity: Identity,
}

/// What `recover` has done.
#[derive(Debug)]
pub struct Recovered {
    /// The member that goes on.
    pub survivor: Survivor,
    /// Names of those that are out.
    pub lost: Vec<String>,
    /// Where the store as it was lies now.
    pub aside: PathBuf,
}

/// Reads what the stopped member of this configuration holds. Changes nothing, but for a log that lost something: that one is
/// moved aside as at any start (R4), and refused.
///
/// # Errors
/// [`RefoundError`], in particular when it runs.
pub async fn position(config: &Config) -> Result<Survivor, RefoundError> {
    let dirs = store_dirs(config);
    let tls = Store::new(tls_dir(config));
    if !store::is_formatted(&dirs) || !tls.exists() {
        return Err(RefoundError::NotBorn(config.data_dir.clone()));
    }
    if store::in_use(&dirs).map_err(StartError::Store)? {
        return Err(RefoundError::Running(dirs.root().to_owned()));
    }
    let own = LiveTls::new(tls.load().map_err(BirthError::Tls)?).current().identity().clone();
    let Principal::Coordinator { member } = own.principal else {
        return Err(RefoundError::NotBorn(config.data_dir.clone()));
    };
    let identity = Identity::of(own.cluster.as_str(), member.0);
    let (position, standing) = raft::read_back::<State>(identity, &dirs, &store_options(config)).await?;
    let name = standing.state.members.by_id.get(&member).map(|m| m.name.to_string()).unwrap_or_default();
    let cluster = standing.state.cluster.name.clone();
    Ok(Survivor { member, name, cluster, position, standing, identity })
}

/// Lets the stopped member of this configuration go on alone. The new store is made whole beside the old one, which is then
/// moved aside; a crash before that changes nothing.
///
/// # Errors
/// [`RefoundError`]; nothing was changed.
pub async fn recover(config: &Config, cluster_name: &str) -> Result<Recovered, RefoundError> {
    clock::check_released(now()).map_err(BirthError::Clock)?;
    let dirs = store_dirs(config);
    if dirs.diverged().exists() {
        return Err(RefoundError::Diverged);
    }
    let survivor = position(config).await?;
    if survivor.cluster != cluster_name {
        let given = cluster_name.to_owned();
        return Err(RefoundError::Name { given, found: survivor.cluster });
    }
    let state = &survivor.standing.state;
    let found = state.members.by_id.get(&survivor.member).filter(|m| m.removed_at.is_none());
    let own = found.ok_or(RefoundError::Removed(survivor.member))?;
    let others = state.members.present().filter(|m| m.id != survivor.member);
    let lost: Vec<String> = others.map(|m| m.name.to_string()).collect();
    let command = ClusterCommand::Refound {
        member: survivor.member,
        name: own.name.clone(),
        grpc: config.advertise_grpc.clone(),
        http: config.advertise_http.clone(),
        certificates: Vec::new(),
    };
    let entry = Entry::system(now(), Command::Cluster(command));
    let beside = StoreDirs::new(files::beside(dirs.root(), ".recover"));
    if beside.root().exists() {
        // Of an attempt that was cut short; nobody has run on it.
        store::set_aside(&beside).map_err(StartError::Store)?;
    }
    let address = &config.advertise_grpc;
    let options = store_options(config);
    raft::lay_down(survivor.identity, &beside, &options, &survivor.standing, address).await?;
    write_alone(config, beside.clone(), survivor.identity, false, entry).await?;
    let aside = store::set_aside(&dirs).map_err(StartError::Store)?;
    let moved = std::fs::rename(beside.root(), dirs.root());
    let moved = moved.and_then(|()| files::fsync_dir(files::parent(dirs.root())));
    moved.map_err(|source| RefoundError::File { path: beside.root().to_owned(), source })?;
    Ok(Recovered { survivor, lost, aside })
}

/// Most terms and log entries that a cluster comes to; more in a file is made up, and would leave no room to go on.
const NUMBERS_MAX: u64 = 1 << 56;

/// Whether a file's header is the one of its state.
fn check_header(header: &SavedHeader, state: &State) -> Result<(), &'static str> {
    if state.cluster.id.as_ref().map(|id| id.as_str()) != Some(header.cluster_id.as_str()) {
        return Err("its header names another cluster than its state");
    }
    if header.index < state.revision.0 || header.term >= NUMBERS_MAX || header.index >= NUMBERS_MAX {
        return Err("its header names a log entry that its state cannot stand at");
    }
    if header.level != state.settings.level {
        return Err("its header names another level than its state");
    }
    Ok(())
}

/// Makes the first member of a cluster that goes on from a saved state, in an empty directory, under a number that was never
/// handed out. `ca` holds `ca.pem` and `ca.key` of the cluster, from any member's `tls` directory: agents and people know
/// the cluster by it.
///
/// # Errors
/// [`RefoundError`]; a directory left half made by a crash is refused and named.
pub async fn restore(
    config: &Config,
    file: &Path,
    ca: &Path,
) -> Result<(SavedHeader, MemberId), RefoundError> {
    let at = now();
    clock::check_released(at).map_err(BirthError::Clock)?;
    unused(config)?;
    let path = || file.to_owned();
    let bytes = files::read_limited(file, SAVED_MAX_BYTES);
    let bytes = bytes.map_err(|source| RefoundError::File { path: path(), source })?;
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let bytes = bytes.ok_or_else(|| RefoundError::File { path: path(), source: missing() })?;
    let (header, state) =
        saved::decode(&bytes).map_err(|source| RefoundError::Saved { path: path(), source })?;
    let state: State = raft::decode_state(state)?;
    check_header(&header, &state).map_err(|why| RefoundError::Header { path: path(), why })?;
    let authority = CertificateAuthority::load(ca).map_err(BirthError::Tls)?;
    let cluster = state.cluster.id.clone();
    let cluster = cluster.ok_or_else(|| BirthError::First("the saved state has no cluster".to_owned()))?;
    if state.cluster.ca_pems.iter().all(|pem| pem.trim() != authority.pem().trim()) {
        return Err(RefoundError::OtherCa(ca.to_owned()));
    }
    let member = state.members.refounded(at);
    let principal = Principal::Coordinator { member };
    let spec =
        LeafSpec::new(principal.clone(), at, config.certificate_life).with_hosts(config.server_names());
    let (key, own) = issue(&authority, &cluster, &spec)?;
    private_dir(&config.data_dir)?;
    private_dir(&tls_dir(config))?;
    authority.save(&tls_dir(config)).map_err(BirthError::Tls)?;
    let trust = state.cluster.ca_pems.concat();
    Store::new(tls_dir(config)).save(&trust, &own.1, key.key_pem()).map_err(BirthError::Tls)?;
    let command = ClusterCommand::Refound {
        member,
        name: config.name.clone(),
        grpc: config.advertise_grpc.clone(),
        http: config.advertise_http.clone(),
        certificates: vec![NewCertificate {
            serial: own.0,
            principal,
            access: None,
            not_after: spec.not_after,
        }],
    };
    let identity = Identity::of(cluster.as_str(), member.0);
    let standing =
        Standing { last: (header.term, header.leader_id, header.index), vote_term: header.term, state };
    let dirs = store_dirs(config);
    raft::lay_down(identity, &dirs, &store_options(config), &standing, &config.advertise_grpc).await?;
    write_alone(config, dirs, identity, false, Entry::system(at, Command::Cluster(command))).await?;
    Ok((header, member))
}
