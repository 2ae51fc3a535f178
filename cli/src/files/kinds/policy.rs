//! `kind: Policy`.

use prost::Message as _;
use quorate_common::wire::policy::{read_policy, write_policy};
use quorate_proto::v1;
use quorate_proto::v1::policy_service_client::PolicyServiceClient;

use super::{Call, Kind, Turn, Usage, decoded, found};
use crate::call;
use crate::client::Client;

/// The row.
pub(super) const KIND: Kind = Kind {
    word: "Policy",
    noun: "policy",
    message: "quorate.v1.PolicySpec",
    canon: |bytes| Ok(write_policy(&read_policy(decoded(bytes)?)?).encode_to_vec()),
    usage: Usage::Declared { get, apply },
};

fn get(client: &Client, name: String, consistency: i32) -> Call<'_, Option<Vec<u8>>> {
    Box::pin(async move {
        let request = v1::GetPolicyRequest { name, consistency };
        let answer = found(call!(client, PolicyServiceClient, get_policy, request))?;
        Ok(answer.and_then(|a| a.policy?.spec).map(|spec| spec.encode_to_vec()))
    })
}

fn apply<'a>(client: &'a Client, turn: Turn<'a>) -> Call<'a, bool> {
    Box::pin(async move {
        let Turn { document, all: _, options } = turn;
        let request = v1::ApplyPolicyRequest {
            spec: Some(document.spec()?),
            options: Some(options),
            ..Default::default()
        };
        Ok(call!(client, PolicyServiceClient, apply_policy, request)?.changed)
    })
}
