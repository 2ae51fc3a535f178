//! `kind: Service`.

use prost::Message as _;
use quorate_common::wire::service::{read_service, write_service};
use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;

use super::{Call, Kind, Turn, Usage, decoded, found};
use crate::call;
use crate::client::Client;

/// The row.
pub(super) const KIND: Kind = Kind {
    word: "Service",
    noun: "service",
    message: "quorate.v1.ServiceSpec",
    canon: |bytes| Ok(write_service(&read_service(decoded(bytes)?)?).encode_to_vec()),
    usage: Usage::Declared { get, apply },
};

fn get(client: &Client, name: String, consistency: i32) -> Call<'_, Option<Vec<u8>>> {
    Box::pin(async move {
        let request = v1::GetServiceRequest { name, consistency };
        let answer = found(call!(client, GroupServiceClient, get_service, request))?;
        Ok(answer.and_then(|a| a.service?.spec).map(|spec| spec.encode_to_vec()))
    })
}

fn apply<'a>(client: &'a Client, turn: Turn<'a>) -> Call<'a, bool> {
    Box::pin(async move {
        let Turn { document, all: _, options } = turn;
        let request = v1::ApplyServiceRequest { spec: Some(document.spec()?), options: Some(options) };
        Ok(call!(client, GroupServiceClient, apply_service, request)?.changed)
    })
}
