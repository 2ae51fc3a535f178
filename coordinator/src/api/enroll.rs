//! EnrollService: a token and a certificate request for a certificate. The only call that needs no certificate.
//!
//! Every cause of refusal gives one and the same answer; the audit has the cause. The secret is compared in constant time
//! before anything else is looked at; that the token is used once is enforced by the order of the log. A certificate is on
//! the allow-list before it is handed out.
//!
//! A caller whose answer was lost repeats the call with the same key: the request id is made from token and key, so the
//! repeated entry is recognised, and the new certificate is listed beside the first one.

use std::str::FromStr;

use quorate_common::tls::{JoinToken, constant_time_eq};
use quorate_common::wire::Invalid;
use quorate_common::wire::status::INDEX_KEY;
use quorate_common::wire::text::{read_filled, read_name};
use quorate_common::wire::time::write_timestamp;
use quorate_core::command::{ClusterCommand, IdentityCommand, Join, NewCertificate, TokenCommand};
use quorate_core::state::{Token, TokenPurpose};
use quorate_core::{Answer, Command, Entry, Origin, State};
use quorate_model::{
    AccessRole, MemberId, MemberName, NodeName, Principal, Reason, Refusal, RequestId, Role, UserName,
};
use quorate_proto::v1;
use quorate_proto::v1::enroll_service_server::EnrollService;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::backend::{RaftRole, Signed};
use super::context::{Api, set};
use super::gate::Anonymous;
use super::ledger::Event;
use super::status::{Failure, problem};

/// Longest address of a coordinator: a DNS name and a port.
const ADDRESS_MAX_BYTES: usize = 262;

/// The answer, and the index it was served at: by then the certificate is listed.
type Welcome = (v1::EnrollResponse, u64);

/// What a token was found to admit.
struct Admitted {
    token: Token,
    request: v1::EnrollRequest,
    request_id: RequestId,
    client_ip: String,
}

/// Why not: shown to nobody but the audit, unless the token was good.
enum Refused {
    Cause(&'static str),
    Failure(Failure),
}

impl<F: Into<Failure>> From<F> for Refused {
    fn from(failure: F) -> Self {
        Self::Failure(failure.into())
    }
}

#[tonic::async_trait]
impl EnrollService for Api {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let Some(caller) = request.extensions().get::<Anonymous>().cloned() else {
            return Err(denied().to_status());
        };
        let id = caller.request.get().clone();
        let now = self.backend().now();
        if self.inner.enrol_failures.is_over(caller.client_ip, now) {
            let failure = Refusal::new(Reason::RateLimited, "too many failed enrolments from this address");
            return Err(self.refuse(&failure.into(), &id));
        }
        match self.enrol(request.into_inner(), &caller).await {
            Ok((response, index)) => {
                let mut response = Response::new(response);
                set(response.metadata_mut(), INDEX_KEY, &index.to_string());
                Ok(response)
            }
            Err(Refused::Cause(cause)) => {
                self.inner.enrol_failures.failed(caller.client_ip, now);
                self.count_denied(&caller, cause);
                Err(denied().with_request_id(id.as_str()).to_status())
            }
            // The log is the last judge of a token; its refusal carries the cause, which stays here.
            Err(Refused::Failure(Failure::Refused(refusal)))
                if refusal.reason() == Reason::Unauthenticated =>
            {
                self.inner.enrol_failures.failed(caller.client_ip, now);
                let cause = refusal.why().first().map_or_else(String::new, |(_, text)| text.clone());
                self.count_denied(&caller, &cause);
                Err(denied().with_request_id(id.as_str()).to_status())
            }
            Err(Refused::Failure(failure)) => Err(self.refuse(&failure, &id)),
        }
    }
}

fn denied() -> quorate_common::wire::Problem {
    problem(Reason::Unauthenticated, "the token is not accepted")
}

impl Api {
    fn count_denied(&self, caller: &Anonymous, cause: &str) {
        self.inner.metrics.refused(Reason::Unauthenticated);
        self.inner.ledger.count(&Event {
            event_type: "auth",
            principal: &Principal::System,
            client_ip: &caller.client_ip.to_string(),
            action: "EnrollService/Enroll",
            reason: Reason::Unauthenticated.as_str(),
            details: cause,
        });
    }

    async fn enrol(&self, request: v1::EnrollRequest, caller: &Anonymous) -> Result<Welcome, Refused> {
        let parsed = JoinToken::from_str(&request.token).map_err(|_| Refused::Cause("it cannot be read"))?;
        self.backend().linearize().await?;
        let (token, cluster) =
            self.look(|state| (state.tokens.get(&parsed.id).cloned(), state.cluster.id.clone()));
        if cluster.as_ref() != Some(&parsed.cluster) {
            return Err(Refused::Cause("it is for another cluster"));
        }
        // Compared even when there is no such token: the time tells nothing.
        let stored = token.as_ref().map_or([0; 32], |t| t.secret_sha256.0);
        let matches = constant_time_eq(&stored, &parsed.secret.hash());
        let token = token.ok_or(Refused::Cause("there is no such token"))?;
        if !matches {
            return Err(Refused::Cause("its secret is wrong"));
        }
        if role(&token.purpose) != parsed.purpose {
            return Err(Refused::Cause("its purpose was changed"));
        }
        let digest = Sha256::digest([request.csr_der.as_slice(), parsed.id.as_str().as_bytes()].concat());
        let request_id = RequestId::new(quorate_common::tls::hex(&digest))
            .map_err(|_| Failure::Internal("a digest is no request id"))?;
        let admitted = Admitted { token, request, request_id, client_ip: caller.client_ip.to_string() };
        match &admitted.token.purpose {
            TokenPurpose::Agent { .. } => self.enrol_agent(&admitted).await,
            TokenPurpose::User { name, access } => self.enrol_user(&admitted, name, *access).await,
            TokenPurpose::Coordinator => self.enrol_member(&admitted).await,
        }
    }

    async fn enrol_agent(&self, admitted: &Admitted) -> Result<Welcome, Refused> {
        let name: NodeName = read_name("name", admitted.request.name.clone())?;
        let principal = Principal::Agent { node: name.clone() };
        let join = Join::Node { name, address: admitted.client_ip.clone() };
        let (signed, answer) = self.consume(admitted, principal, None, join).await?;
        let Answer::Node { number, .. } = answer else {
            return Err(Failure::Internal("enrolling a node gave another answer").into());
        };
        let (welcome, index) = self.welcome(&signed);
        Ok((v1::EnrollResponse { node_id: number.0, ..welcome }, index))
    }

    async fn enrol_user(
        &self,
        admitted: &Admitted,
        name: &UserName,
        access: AccessRole,
    ) -> Result<Welcome, Refused> {
        if !admitted.request.name.is_empty() && admitted.request.name != name.as_str() {
            return Err(Refused::Cause("it is for another user"));
        }
        let principal = Principal::User { name: name.clone() };
        let (signed, _) = self.consume(admitted, principal, Some(access), Join::User).await?;
        Ok(self.welcome(&signed))
    }

    /// A coordinator's certificate names its number, so the token is used up first and the certificate listed afterwards.
    async fn enrol_member(&self, admitted: &Admitted) -> Result<Welcome, Refused> {
        let v1::EnrollRequest { token: _, name, csr_der, grpc_address, http_address, replace, standby } =
            &admitted.request;
        let name: MemberName = read_name("name", name.clone())?;
        let grpc = read_address("grpc_address", grpc_address)?;
        let http = read_address("http_address", http_address)?;
        let hosts = vec![host(&grpc).to_owned(), host(&http).to_owned()];
        // The key is tried first: a request that cannot be signed must not use the token up.
        let probe = Principal::Coordinator { member: MemberId(0) };
        self.inner.signer.sign(csr_der, &probe, &hosts, self.backend().wall())?;
        let mut standby = *standby;
        if *replace {
            self.make_room(admitted, &name).await?;
            // Who had no vote gets none by losing his disk; also when this is asked a second time.
            standby |= self.look(|state| {
                let before = state.members.by_id.values().rev().find(|m| m.name == name);
                before.is_some_and(|m| m.standby)
            });
        }
        let join = Join::Member { name, grpc: grpc.clone(), http, standby };
        let command = TokenCommand::Consume { id: admitted.token.id.clone(), join, certificate: None };
        let answer = self.enter(admitted, Principal::System, "use", Command::Token(command)).await?;
        let Answer::Member { member, .. } = answer else {
            return Err(Failure::Internal("admitting a member gave another answer").into());
        };
        let principal = Principal::Coordinator { member };
        let signed = self.inner.signer.sign(csr_der, &principal, &hosts, self.backend().wall())?;
        self.list(admitted, &signed, principal, None).await?;
        self.backend().admit_member(member, grpc).await?;
        let ca_key_pem = self.inner.signer.ca_key_pem().as_str().to_owned();
        let (welcome, index) = self.welcome(&signed);
        Ok((v1::EnrollResponse { member_id: member.0, ca_key_pem, ..welcome }, index))
    }

    /// Takes the lost member of this name out of the list, so that its successor can have the name. The leader then takes it
    /// out of the Raft group, before it makes the successor a voter.
    async fn make_room(&self, admitted: &Admitted, name: &MemberName) -> Result<(), Refused> {
        let token = &admitted.token;
        let now = self.backend().now();
        if token.used_by.is_some() {
            // A repeated call: its first answer was lost, the room was made then.
            return Ok(());
        }
        if token.revoked_at.is_some() || now >= token.expires_at {
            return Err(Refused::Cause("it was revoked or has expired"));
        }
        let Some(member) = self.look(|state| state.members.named(name).map(|m| m.id)) else {
            return Ok(());
        };
        let views = self.backend().members().await;
        if views.iter().any(|view| view.id == member && view.role != RaftRole::Down) {
            let text = format!("member {name} answers as number {member}: stop it before it is replaced");
            return Err(Failure::from(Refusal::new(Reason::Conflict, text)).into());
        }
        let command = Command::Cluster(ClusterCommand::RemoveMember { member });
        self.enter(admitted, Principal::System, "room", command).await?;
        Ok(())
    }

    /// Signs, uses the token up and lists the certificate in one entry.
    async fn consume(
        &self,
        admitted: &Admitted,
        principal: Principal,
        access: Option<AccessRole>,
        join: Join,
    ) -> Result<(Signed, Answer), Refused> {
        let wall = self.backend().wall();
        let signed = self.inner.signer.sign(&admitted.request.csr_der, &principal, &[], wall)?;
        let certificate = Some(certificate(&signed, &principal, access));
        let command = TokenCommand::Consume { id: admitted.token.id.clone(), join, certificate };
        let answer = self.enter(admitted, principal.clone(), "use", Command::Token(command)).await?;
        // An answer to a repeated request lists the first certificate; this one is new.
        if self.look(|state| !state.identities.contains_key(&signed.serial)) {
            self.list(admitted, &signed, principal, access).await?;
        }
        Ok((signed, answer))
    }

    async fn list(
        &self,
        admitted: &Admitted,
        signed: &Signed,
        principal: Principal,
        access: Option<AccessRole>,
    ) -> Result<(), Failure> {
        let certificate = certificate(signed, &principal, access);
        let command = Command::Identity(IdentityCommand::Register { certificate });
        self.enter(
            admitted,
            principal,
            &signed.serial.as_str()[..8.min(signed.serial.as_str().len())],
            command,
        )
        .await?;
        Ok(())
    }

    async fn enter(
        &self,
        admitted: &Admitted,
        principal: Principal,
        part: &str,
        command: Command,
    ) -> Result<Answer, Failure> {
        let origin = Origin { client_ip: admitted.client_ip.clone(), reason: "enrolment".into() };
        // The digest is 64 digits, the whole length of an id: its first 40 are unique enough, and leave room for the part.
        let id = RequestId::new(format!("{}.{part}", &admitted.request_id.as_str()[..40]))
            .map_err(|_| Failure::Internal("a part of a request id is none"))?;
        let entry = Entry::new(self.backend().now(), principal, Some(id), command).with_origin(origin);
        let (index, answer) = self.backend().propose(entry).await?;
        let answer = answer.into_result()?;
        self.applied(index).await?;
        Ok(answer)
    }

    fn welcome(&self, signed: &Signed) -> Welcome {
        let response = |state: &State| v1::EnrollResponse {
            certificate_pem: signed.pem.clone(),
            ca_pem: state.cluster.ca_pems.concat(),
            cluster_id: state.cluster.id.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
            coordinators: state.members.present().map(|m| m.grpc.clone()).collect(),
            member_id: 0,
            ca_key_pem: String::new(),
            expires: write_timestamp(signed.not_after),
            node_id: 0,
        };
        self.look(|state| (response(state), state.revision.0))
    }

    /// A new certificate for the same agent, listed before it is handed out. The old one stays valid until its end, so that
    /// a lost answer locks nobody out. For the agent's session service.
    ///
    /// # Errors
    /// [`Failure`]: the request cannot be signed, the node was removed, or the write was not confirmed.
    pub async fn renew_agent(
        &self,
        node: &NodeName,
        csr_der: &[u8],
        client_ip: &str,
    ) -> Result<quorate_proto::agent::v1::RenewCertificateResponse, Failure> {
        let principal = Principal::Agent { node: node.clone() };
        let now = self.backend().now();
        let signed = self.inner.signer.sign(csr_der, &principal, &[], self.backend().wall())?;
        let certificate = certificate(&signed, &principal, None);
        let command = Command::Identity(IdentityCommand::Register { certificate });
        let origin = Origin { client_ip: client_ip.to_owned(), reason: "renewal".into() };
        let entry = Entry::new(now, principal, None, command).with_origin(origin);
        let (index, answer) = self.backend().propose(entry).await?;
        answer.into_result()?;
        self.applied(index).await?;
        Ok(quorate_proto::agent::v1::RenewCertificateResponse {
            certificate_pem: signed.pem,
            ca_pem: self.look(|state| state.cluster.ca_pems.concat()),
            expires: write_timestamp(signed.not_after),
        })
    }
}

fn certificate(signed: &Signed, principal: &Principal, access: Option<AccessRole>) -> NewCertificate {
    NewCertificate {
        serial: signed.serial.clone(),
        principal: principal.clone(),
        access,
        not_after: signed.not_after,
    }
}

const fn role(purpose: &TokenPurpose) -> Role {
    match purpose {
        TokenPurpose::Agent { .. } => Role::Agent,
        TokenPurpose::Coordinator => Role::Coordinator,
        TokenPurpose::User { .. } => Role::User,
    }
}

/// `host:port` with a port that is not 0.
fn read_address(field: &str, text: &str) -> Result<String, Invalid> {
    let text = read_filled(field, text.to_owned(), ADDRESS_MAX_BYTES)?;
    let bad = || Invalid::new(field, "it must be host:port");
    let address = quorate_common::tls::Address::from_str(&text).map_err(|_| bad())?;
    Ok(address.to_string())
}

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host.trim_start_matches('[').trim_end_matches(']'))
}
