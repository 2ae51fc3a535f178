//! How a member comes to be: `init` makes the cluster with its first member, `join` makes a further one by token.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_common::tls::{
    Address, CertificateAuthority, ChannelLimits, ClientTls, JoinToken, KeyRequest, LeafSpec, Store,
    TlsError, channel, read_private,
};
use quorate_core::command::{ClusterCommand, NewCertificate};
use quorate_core::{Command, Entry, State};
use quorate_durable::files;
use quorate_model::{AccessRole, ClusterId, MemberId, Principal, Role, UserName};
use quorate_proto::v1;
use quorate_proto::v1::enroll_service_client::EnrollServiceClient;
use zeroize::Zeroizing;

use super::{WrongClock, clock, now, store_dirs, store_options, tls_dir};
use crate::config::Config;
use crate::raft::{GrpcTransport, NoHooks, RaftNode, StartError};
use crate::store::{self, Identity, StoreDirs, StoreRefused};

/// How long the first entry of a cluster may take: one election and one write.
const FIRST_ENTRY: Duration = Duration::from_secs(30);
/// Life of the first administrator's certificate; it renews by `quorate token create --purpose user` before.
const ADMIN_LIFE: Duration = Duration::from_secs(365 * 86_400);

/// Why no member came to be.
#[derive(Debug, thiserror::Error)]
pub enum BirthError {
    /// The directory holds something already.
    #[error("{} is in use already: a member is made once; use another data_dir, or `quorate-coordinator rejoin` after a loss", .0.display())]
    InUse(PathBuf),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The clock: a CA made now would end at the wrong time.
    #[error(transparent)]
    Clock(#[from] WrongClock),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreRefused),
    /// Raft.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The first entry was not written.
    #[error("the cluster was not initialised: {0}")]
    First(String),
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The token.
    #[error("the token cannot be used: {0}")]
    Token(String),
    /// No coordinator admitted us.
    #[error("not admitted: {0}")]
    Refused(String),
}

impl BirthError {
    /// Exit code of the process: 74 for the store, 2 for input, 1 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Store(refused) => refused.exit_code(),
            Self::Start(StartError::Store(refused)) => refused.exit_code(),
            Self::InUse(_) | Self::Token(_) | Self::File { .. } => 2,
            Self::Clock(_) | Self::Tls(_) | Self::Start(_) | Self::First(_) | Self::Refused(_) => 1,
        }
    }
}

pub(super) fn private_dir(path: &Path) -> Result<(), BirthError> {
    use std::os::unix::fs::DirBuilderExt;
    let fail = |source| BirthError::File { path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail)
}

pub(super) fn unused(config: &Config) -> Result<(), BirthError> {
    if store::is_formatted(&store_dirs(config)) || Store::new(tls_dir(config)).exists() {
        return Err(BirthError::InUse(config.data_dir.clone()));
    }
    Ok(())
}

/// Makes the CA, the cluster and its first member; writes the first administrator's identity into `admin_out`, with the
/// configuration that the command line needs beside it.
///
/// # Errors
/// [`BirthError`]; a directory left half made by a crash is refused and named.
pub async fn init(config: &Config, admin_out: &Path, admin: UserName) -> Result<ClusterId, BirthError> {
    let at = now();
    clock::check_released(at)?;
    unused(config)?;
    private_dir(&config.data_dir)?;
    private_dir(&tls_dir(config))?;
    private_dir(admin_out)?;
    let cluster =
        ClusterId::new(uuid::Uuid::new_v4().to_string()).map_err(|e| BirthError::First(e.to_string()))?;
    let authority = CertificateAuthority::create(&cluster, &config.cluster_name, at)?;
    authority.save(&tls_dir(config))?;

    let member = Principal::Coordinator { member: MemberId(1) };
    let hosts = config.server_names();
    let spec = LeafSpec::new(member.clone(), at, config.certificate_life).with_hosts(hosts);
    let (key, own) = issue(&authority, &cluster, &spec)?;
    Store::new(tls_dir(config)).save(authority.pem(), &own.1, key.key_pem())?;

    let user = Principal::User { name: admin };
    let (admin_key, admin_cert) = issue(&authority, &cluster, &LeafSpec::new(user.clone(), at, ADMIN_LIFE))?;
    Store::new(admin_out).save(authority.pem(), &admin_cert.1, admin_key.key_pem())?;
    let path = admin_out.join("config.toml");
    let text = admin_config(&config.cluster_name, &config.advertise_grpc);
    files::write_atomic(&path, text.as_bytes()).map_err(|source| BirthError::File { path, source })?;

    let identity = Identity::of(cluster.as_str(), 1);
    store::format(&store_dirs(config), identity, &store_options(config))?;
    let first = ClusterCommand::Init {
        id: cluster.clone(),
        name: config.cluster_name.clone(),
        ca_pem: authority.pem().to_owned(),
        member: config.name.clone(),
        grpc: config.advertise_grpc.clone(),
        http: config.advertise_http.clone(),
        certificates: vec![
            NewCertificate { serial: own.0, principal: member, access: None, not_after: spec.not_after },
            NewCertificate {
                serial: admin_cert.0,
                principal: user,
                access: Some(AccessRole::Admin),
                not_after: LeafSpec::new(Principal::System, at, ADMIN_LIFE).not_after,
            },
        ],
    };
    let entry = Entry::system(at, Command::Cluster(first));
    write_alone(config, store_dirs(config), identity, true, entry).await?;
    Ok(cluster)
}

/// The command line's configuration for the first administrator. Its paths begin at the file itself, so that the folder may
/// be moved to `~/.config/quorate` as it is.
fn admin_config(cluster_name: &str, address: &str) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let name = quoted(cluster_name);
    format!(
        "current_context = {name}\n\n[contexts.{name}]\naddresses = [{}]\nca = \"ca.pem\"\ncert = \"cert.pem\"\nkey = \"key.pem\"\n",
        quoted(address)
    )
}

pub(super) type Certificate = (quorate_model::Serial, String);

pub(super) fn issue(
    authority: &CertificateAuthority,
    cluster: &ClusterId,
    spec: &LeafSpec,
) -> Result<(KeyRequest, Certificate), BirthError> {
    let key = KeyRequest::create(cluster, &spec.principal)?;
    let issued = authority.sign_csr(key.csr_der(), spec)?;
    Ok((key, (issued.serial, issued.pem)))
}

/// Writes an entry with a Raft member that talks to nobody: a cluster of one elects itself. `first` makes it one.
pub(super) async fn write_alone(
    config: &Config,
    dirs: StoreDirs,
    identity: Identity,
    first: bool,
    entry: Entry,
) -> Result<(), BirthError> {
    struct Nobody;
    impl crate::raft::Dial for Nobody {
        fn channel(
            &self,
            _: u64,
            _: &str,
            _: crate::raft::Purpose,
        ) -> Result<tonic::transport::Channel, String> {
            Err("a cluster of one has no peers".to_owned())
        }
    }
    let transport = Arc::new(GrpcTransport::new(Arc::new(Nobody)));
    let options = store_options(config);
    let node: RaftNode<State> =
        RaftNode::start(identity, dirs, options, config.raft.clone(), transport, Arc::new(NoHooks)).await?;
    if first {
        node.bootstrap(&config.advertise_grpc).await?;
    }
    let written = tokio::time::timeout(FIRST_ENTRY, node.propose(&entry)).await;
    node.shutdown().await;
    match written {
        Ok(Ok((_, answer))) => match answer.refusal() {
            None => Ok(()),
            Some(refusal) => Err(BirthError::First(refusal.to_string())),
        },
        Ok(Err(error)) => Err(BirthError::First(error.to_string())),
        Err(_) => Err(BirthError::First("the first entry was not written within 30 s".to_owned())),
    }
}

/// Joins the cluster that a token names: gets a number, a certificate and the CA, and formats the store. The member takes
/// part once it runs; the leader makes it a voter when it has caught up, a standby when somebody promotes it.
///
/// # Errors
/// [`BirthError`].
pub async fn join(config: &Config, token_file: &Path, standby: bool) -> Result<MemberId, BirthError> {
    unused(config)?;
    let admission = ask(config, token_file, false, standby).await?;
    settle(config, &admission)
}

/// Comes back after the store was lost: the cluster gives this machine a new number, under the old name, and forgets the old
/// one; what is left of the old member is moved aside. Nothing changes here when the cluster refuses, and after a crash
/// half way the same command with a new token is enough.
///
/// # Errors
/// [`BirthError`], in particular when the old member still runs.
pub async fn rejoin(config: &Config, token_file: &Path) -> Result<MemberId, BirthError> {
    let dirs = store_dirs(config);
    if store::in_use(&dirs)? {
        let text = format!("{} is in use: stop this member first", dirs.root().display());
        return Err(BirthError::Refused(text));
    }
    let admission = ask(config, token_file, true, false).await?;
    move_aside(config)?;
    settle(config, &admission)
}

/// What the cluster gave.
struct Admission {
    cluster: ClusterId,
    key: KeyRequest,
    answer: v1::EnrollResponse,
}

async fn ask(
    config: &Config,
    token_file: &Path,
    replace: bool,
    standby: bool,
) -> Result<Admission, BirthError> {
    let text = read_private(token_file)?;
    let token = text.trim().parse::<JoinToken>().map_err(|e| BirthError::Token(e.to_string()))?;
    if token.purpose != Role::Coordinator {
        return Err(BirthError::Token(format!("it admits a {}, not a coordinator", token.purpose)));
    }
    let key = KeyRequest::create(&token.cluster, &Principal::Coordinator { member: MemberId(0) })?;
    let request = v1::EnrollRequest {
        token: text.trim().to_owned(),
        name: config.name.to_string(),
        csr_der: key.csr_der().to_vec(),
        grpc_address: config.advertise_grpc.clone(),
        http_address: config.advertise_http.clone(),
        replace,
        standby,
    };
    let answer = enroll(config, &token, request).await?;
    Ok(Admission { cluster: token.cluster.clone(), key, answer })
}

/// Keeps what the cluster gave, the store last: a member without one does not start.
fn settle(config: &Config, admission: &Admission) -> Result<MemberId, BirthError> {
    let Admission { cluster, key, answer } = admission;
    private_dir(&config.data_dir)?;
    private_dir(&tls_dir(config))?;
    let member = MemberId(answer.member_id);
    let ca_key = Zeroizing::new(answer.ca_key_pem.clone());
    CertificateAuthority::from_pem(&answer.ca_pem, &ca_key)?.save(&tls_dir(config))?;
    Store::new(tls_dir(config)).save(&answer.ca_pem, &answer.certificate_pem, key.key_pem())?;
    let identity = Identity::of(cluster.as_str(), member.0);
    store::format(&store_dirs(config), identity, &store_options(config))?;
    Ok(member)
}

/// Moves what a lost member left to one side, so that this machine can begin again under a new number.
fn move_aside(config: &Config) -> Result<(), BirthError> {
    let dirs = store_dirs(config);
    // Also when its identity is gone: whatever lies there belongs to the old member.
    if dirs.root().exists() {
        let moved = store::set_aside(&dirs)?;
        tracing::warn!(to = %moved.display(), "the old store was moved aside");
    }
    let tls = tls_dir(config);
    if tls.exists() {
        let moved = quorate_durable::files::quarantine(&tls)
            .map_err(|source| BirthError::File { path: tls.clone(), source })?;
        tracing::warn!(to = %moved.display(), "the old identity was moved aside");
    }
    Ok(())
}

async fn enroll(
    config: &Config,
    token: &JoinToken,
    request: v1::EnrollRequest,
) -> Result<v1::EnrollResponse, BirthError> {
    let tls = ClientTls::pinned(token.ca, token.cluster.clone())?;
    let configured = config.enroll.iter().filter_map(|text| text.parse::<Address>().ok());
    let mut last = "neither the token nor the configuration names an address".to_owned();
    for address in token.addresses.iter().cloned().chain(configured) {
        let dialled = channel(&address, &tls, &ChannelLimits::default())
            .map_err(|e| BirthError::Refused(e.to_string()))?;
        match EnrollServiceClient::new(dialled).enroll(request.clone()).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if status.code() == tonic::Code::Unavailable => {
                last = format!("{address}: {}", status.message());
            }
            Err(status) => return Err(BirthError::Refused(format!("{address}: {}", status.message()))),
        }
    }
    Err(BirthError::Refused(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_administrators_configuration_is_toml_whatever_the_cluster_is_called() {
        for name in ["quorate", "two words", "a\"quote\" and a \\", "été.1"] {
            let text = admin_config(name, "coord1:7443");
            let read: toml::Table = toml::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert_eq!(read["current_context"].as_str(), Some(name));
            let context = &read["contexts"][name];
            assert_eq!(context["addresses"][0].as_str(), Some("coord1:7443"));
            assert_eq!(context["key"].as_str(), Some("key.pem"));
        }
    }
}
