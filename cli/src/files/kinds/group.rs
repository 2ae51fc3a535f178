//! `kind: ServiceGroup`.

use prost::Message as _;
use quorate_common::wire::group::{read_group, write_group};
use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;

use super::{Call, Kind, Turn, Usage, decoded, found, service};
use crate::call;
use crate::client::Client;

/// The row.
pub(super) const KIND: Kind = Kind {
    word: "ServiceGroup",
    noun: "group",
    message: "quorate.v1.GroupSpec",
    canon: |bytes| Ok(write_group(&read_group(decoded(bytes)?)?).encode_to_vec()),
    usage: Usage::Declared { get, apply },
};

fn get(client: &Client, name: String, consistency: i32) -> Call<'_, Option<Vec<u8>>> {
    Box::pin(async move {
        let request = v1::GetGroupRequest { name, consistency };
        let answer = found(call!(client, GroupServiceClient, get_group, request))?;
        Ok(answer.and_then(|a| a.group?.spec).map(|spec| spec.encode_to_vec()))
    })
}

fn apply<'a>(client: &'a Client, turn: Turn<'a>) -> Call<'a, bool> {
    Box::pin(async move {
        let Turn { document, all, options } = turn;
        let spec: v1::GroupSpec = document.spec()?;
        // A dry run has declared nothing: the group is judged together with its service of the same files.
        let own = |other: &&super::Document| {
            options.validate_only && other.kind.word == service::KIND.word && other.name == spec.service
        };
        let with_service = all.iter().find(own).map(super::Document::spec).transpose()?;
        let request = v1::ApplyGroupRequest { spec: Some(spec), options: Some(options), with_service };
        Ok(call!(client, GroupServiceClient, apply_group, request)?.changed)
    })
}
