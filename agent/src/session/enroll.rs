//! The node's identity: a token and a key of our own for a certificate.
//!
//! The key is made here and never leaves. The token is sent only over a connection whose CA it pins itself.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use quorate_common::task::{Backoff, BackoffPolicy, Entropy, Shutdown};
use quorate_common::tls::{
    Address, ChannelLimits, ClientTls, JoinToken, KeyRequest, Material, Store, channel, read_private,
};
use quorate_common::wire::status::Problem;
use quorate_model::{NodeName, Principal, Role};
use quorate_proto::v1::enroll_service_client::EnrollServiceClient;
use quorate_proto::v1::{EnrollRequest, EnrollResponse};
use tonic::Code;

use super::daemon::Fatal;
use crate::config::Config;

/// One call; it waits for a commit.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A coordinator that is not there yet is asked again; a token that was refused is not.
const RETRY: BackoffPolicy =
    BackoffPolicy { initial: Duration::from_millis(500), max: Duration::from_secs(15), growth_percent: 200 };
/// Largest answer: two certificates.
const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// The stored identity, or a new one. `None` when it was told to stop before it had one.
///
/// # Errors
/// [`Fatal`]: nothing stored and no token, a token that was refused, an identity of somebody else.
pub(super) async fn identity(
    config: &Config,
    store: &Store,
    shutdown: &Shutdown,
) -> Result<Option<Material>, Fatal> {
    if store.exists() {
        let material = store.load()?;
        let own = Principal::Agent { node: config.node.clone() };
        if material.identity().principal != own {
            return Err(Fatal::Config(format!(
                "the certificate in {} is for {}, this is {own}",
                store.dir().display(),
                material.identity().principal
            )));
        }
        let expired = material.identity().not_after < crate::host::clock::now();
        let token = config.token_file.as_deref().filter(|file| expired && file.exists());
        match token {
            Some(file) => {
                tracing::warn!(token = %file.display(), "the certificate has ended: enrolling again")
            }
            None => return Ok(Some(material)),
        }
    }
    let Some(file) = &config.token_file else {
        return Err(Fatal::Config("there is no certificate yet: set token_file in agent.toml".to_owned()));
    };
    let text = read_private(file)?;
    let token: JoinToken = text
        .parse()
        .map_err(|e| Fatal::Config(format!("the token in {} can not be used: {e}", file.display())))?;
    if token.purpose != Role::Agent {
        return Err(Fatal::Config(format!("the token in {} is not for an agent", file.display())));
    }
    let mut addresses = config.enroll.clone();
    addresses.extend(token.addresses.iter().filter(|a| !config.enroll.contains(a)).cloned());
    if addresses.is_empty() {
        return Err(Fatal::Config("nobody to enrol with: set enroll in agent.toml".to_owned()));
    }
    let request = KeyRequest::create(&token.cluster, &Principal::Agent { node: config.node.clone() })?;
    let tls = ClientTls::pinned(token.ca, token.cluster.clone())?;
    let Some(answer) = ask_all(&config.node, &text, &request, &tls, &addresses, shutdown).await? else {
        return Ok(None);
    };
    let material = store.save(&answer.ca_pem, &answer.certificate_pem, request.key_pem())?;
    remember(config, &answer);
    used_up(file);
    tracing::info!(node = %config.node, number = answer.node_id, "enrolled");
    Ok(Some(material))
}

/// Asks one after another until one answers. The key stays the same: whoever repeats a call whose answer was lost with the
/// same key is recognised.
async fn ask_all(
    node: &NodeName,
    token: &str,
    request: &KeyRequest,
    tls: &ClientTls,
    addresses: &[Address],
    shutdown: &Shutdown,
) -> Result<Option<EnrollResponse>, Fatal> {
    let mut entropy = Entropy::from_os();
    let mut backoff = Backoff::new(RETRY);
    for address in addresses.iter().cycle() {
        let asked = shutdown.run_until(ask(node, token, request, tls, address)).await;
        match asked {
            None => return Ok(None),
            Some(Ok(answer)) => return Ok(Some(answer)),
            Some(Err(status)) if is_refusal(status.code()) => {
                let problem = Problem::from_status(&status);
                let hint = if problem.hint.is_empty() {
                    String::new()
                } else {
                    format!(" (hint: {})", problem.hint)
                };
                let what = problem.what;
                return Err(Fatal::Config(format!("{address} refused to enrol this node: {what}{hint}")));
            }
            Some(Err(status)) => {
                let why = super::words::status_text(&status);
                tracing::warn!(coordinator = %address, why, "could not enrol yet");
            }
        }
        if !shutdown.pause(backoff.next_delay(entropy.next_u64())).await {
            return Ok(None);
        }
    }
    Ok(None)
}

const fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::AlreadyExists
            | Code::Unimplemented
    )
}

async fn ask(
    node: &NodeName,
    token: &str,
    request: &KeyRequest,
    tls: &ClientTls,
    address: &Address,
) -> Result<EnrollResponse, tonic::Status> {
    let limits = ChannelLimits { request_timeout: Some(CALL_TIMEOUT), ..ChannelLimits::default() };
    let channel = channel(address, tls, &limits)
        .map_err(|e| tonic::Status::unavailable(crate::helper::error_text(&e)))?;
    let mut client = EnrollServiceClient::new(channel).max_decoding_message_size(ANSWER_MAX_BYTES);
    let call = EnrollRequest {
        standby: false,
        replace: false,
        token: token.trim().to_owned(),
        name: node.to_string(),
        csr_der: request.csr_der().to_vec(),
        grpc_address: String::new(),
        http_address: String::new(),
    };
    Ok(client.enroll(call).await?.into_inner())
}

/// Keeps the coordinators' addresses of the answer.
fn remember(config: &Config, answer: &EnrollResponse) {
    super::dial::Book::open(&config.data_dir, config.coordinators.clone()).learn(&answer.coordinators);
}

/// The token is of no use any more; a secret should not lie about. Whether somebody has to look after it.
fn used_up(file: &Path) -> bool {
    match std::fs::remove_file(file) {
        Ok(()) => false,
        // A credential: systemd's own copy, read-only (or owned by root) and gone with the service. What it was copied from
        // lies where only root may write, and the unit removes it.
        Err(_) if is_credential(file, std::env::var_os("CREDENTIALS_DIRECTORY").as_deref()) => false,
        Err(error) => {
            tracing::warn!(%error, file = %file.display(), "the used token could not be removed");
            true
        }
    }
}

/// Whether a file lies in the folder in which systemd shows a service its credentials (systemd.exec(5)).
fn is_credential(file: &Path, credentials: Option<&OsStr>) -> bool {
    credentials
        .is_some_and(|folder| Path::new(folder).is_absolute() && file.parent() == Some(Path::new(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_cannot_be_removed_is_worth_a_warning_unless_it_is_a_credential() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        std::fs::write(&token, "x").unwrap();
        assert!(!used_up(&token));
        assert!(!token.exists());
        assert!(used_up(&token), "it is not there: somebody took it");
        for (folder, is) in [
            (Some("/run/credentials/quorate-agent.service"), true),
            (Some("/run/credentials"), false),
            (Some("/run/credentials/other.service"), false),
            (Some(""), false),
            (None, false),
        ] {
            let file = Path::new("/run/credentials/quorate-agent.service/quorate-agent.token");
            assert_eq!(is_credential(file, folder.map(OsStr::new)), is, "{folder:?}");
        }
    }
}
