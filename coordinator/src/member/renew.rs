//! This member's own certificate: renewed at two thirds of its life, listed before it is used, no connection dropped.

use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{BoxError, Shutdown};
use quorate_common::telemetry::error_text;
use quorate_common::tls::{KeyRequest, LiveTls, Store};
use quorate_core::command::{IdentityCommand, NewCertificate};
use quorate_core::{Command, Entry};
use quorate_model::{MemberId, Principal};

use crate::api::backend::{Backend, Signer};

/// Time between two looks, and between two tries.
const LOOK: Duration = Duration::from_secs(30);

/// What renewing works with.
pub(super) struct Renewal {
    pub(super) member: MemberId,
    pub(super) tls: Arc<LiveTls>,
    pub(super) store: Store,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) hosts: Vec<String>,
}

impl Renewal {
    /// Looks until shutdown.
    pub(super) async fn run(self, shutdown: Shutdown) -> Result<(), BoxError> {
        while shutdown.pause(LOOK).await {
            let due = self.tls.current().identity().renew_at();
            if self.backend.wall() < due {
                continue;
            }
            match self.renew().await {
                Ok(()) => tracing::info!(member = %self.member, "certificate renewed"),
                Err(error) => {
                    let error = error_text(&*error);
                    tracing::error!(member = %self.member, error, "certificate not renewed; tried again");
                }
            }
        }
        Ok(())
    }

    async fn renew(&self) -> Result<(), BoxError> {
        let principal = Principal::Coordinator { member: self.member };
        let cluster = self.tls.current().identity().cluster.clone();
        let request = KeyRequest::create(&cluster, &principal)?;
        let now = self.backend.now();
        let signed = self.signer.sign(request.csr_der(), &principal, &self.hosts, self.backend.wall())?;
        let certificate = NewCertificate {
            serial: signed.serial.clone(),
            principal: principal.clone(),
            access: None,
            not_after: signed.not_after,
        };
        let command = Command::Identity(IdentityCommand::Register { certificate });
        let (_, answer) = self.backend.propose(Entry::new(now, principal, None, command)).await?;
        if let Some(refusal) = answer.refusal() {
            return Err(refusal.to_string().into());
        }
        let material = self.store.save(&self.store.ca_pem()?, &signed.pem, request.key_pem())?;
        self.tls.replace(material)?;
        Ok(())
    }
}
