//! Changes of the control plane, of who may come in, and of tokens.

use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    AccessRole, ClusterId, MemberId, MemberName, NodeName, Principal, Serial, Timestamp, TokenId, UserName,
};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::state::{Settings, TokenPurpose};

/// Changes of the control plane itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterCommand {
    /// Once, as the first entry: names the cluster and admits member 1. Answer: `Member`.
    Init {
        /// Minted by `init`.
        id: ClusterId,
        /// For people.
        name: String,
        /// The CA, PEM.
        ca_pem: String,
        /// The first member's name.
        member: MemberName,
        /// Its gRPC address.
        grpc: String,
        /// Its HTTP address.
        http: String,
        /// Certificates issued by `init`: the member's own, the first admin's.
        certificates: Vec<NewCertificate>,
    },
    /// Replaces the CA certificates that are trusted.
    SetTrust {
        /// One, or two during a rotation.
        ca_pems: Vec<String>,
    },
    /// Changes a member's addresses.
    SetMember {
        /// Which.
        member: MemberId,
        /// Its gRPC address.
        grpc: String,
        /// Its HTTP address.
        http: String,
    },
    /// Admits a member without a token (an admin's own hand). Answer: `Member`.
    AddMember {
        /// Its name.
        name: MemberName,
        /// Its gRPC address.
        grpc: String,
        /// Its HTTP address.
        http: String,
    },
    /// Removes a member; its certificates are revoked; its number is never used again.
    RemoveMember {
        /// Which.
        member: MemberId,
    },
    /// Gives a standby its vote: the leader makes it a voter when it has caught up.
    PromoteMember {
        /// Which.
        member: MemberId,
    },
    /// Begins again with one member, by its own hand and off line: the majority was lost, or the state was restored from a
    /// copy. Every other member is out for good, and what was granted before is fenced. Answer: `Member`.
    Refound {
        /// Who goes on: a member that is there, or the number that `Members::refounded` gives.
        member: MemberId,
        /// Its name.
        name: MemberName,
        /// Its gRPC address.
        grpc: String,
        /// Its HTTP address.
        http: String,
        /// Its certificate, when it is a new one.
        certificates: Vec<NewCertificate>,
    },
    /// Replaces the settings. The level may only grow.
    SetSettings {
        /// All of them.
        settings: Settings,
    },
}

/// A certificate that was just issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCertificate {
    /// Its serial number.
    pub serial: Serial,
    /// Who it stands for.
    pub principal: Principal,
    /// What a user may do; must be none for others.
    pub access: Option<AccessRole>,
    /// Its end.
    pub not_after: Timestamp,
}

/// Who joins with a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// A host. Answer: `Node`.
    Node {
        /// Its name.
        name: NodeName,
        /// Where it called from.
        address: String,
    },
    /// A coordinator. Answer: `Member`; its certificate names that number, so it is registered afterwards.
    Member {
        /// Its name.
        name: MemberName,
        /// Its gRPC address.
        grpc: String,
        /// Its HTTP address.
        http: String,
        /// It stays without a vote until it is promoted.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        standby: bool,
    },
    /// The user that the token names. Answer: `Done`.
    User,
}

/// Changes of enrolment tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenCommand {
    /// Makes one. Answer: `Token`.
    Create {
        /// Minted.
        id: TokenId,
        /// sha256 of its secret.
        secret_sha256: Hash,
        /// What it admits.
        purpose: TokenPurpose,
        /// Its end.
        expires_at: Timestamp,
    },
    /// Uses one up and admits its bearer. The proposer has compared the secret's hash in constant time.
    Consume {
        /// Which.
        id: TokenId,
        /// Who joins.
        join: Join,
        /// The certificate just issued; none for a member.
        certificate: Option<NewCertificate>,
    },
    /// Makes one useless.
    Revoke {
        /// Which.
        id: TokenId,
    },
}

/// Changes of who may come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityCommand {
    /// Lists a certificate: a renewal, or a new member's first.
    Register {
        /// The certificate.
        certificate: NewCertificate,
    },
    /// Revokes one certificate.
    Revoke {
        /// Which.
        serial: Serial,
    },
    /// Makes a user or changes what it may do. Listed certificates follow.
    PutUser {
        /// The name.
        name: UserName,
        /// What it may do.
        access: AccessRole,
    },
    /// Removes a user and revokes its certificates.
    RemoveUser {
        /// The name.
        name: UserName,
    },
}
