//! `kind: Schedule`.

use prost::Message as _;
use quorate_common::wire::schedule::{canonical_work, read_schedule, write_schedule};
use quorate_proto::v1;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;

use super::{Call, Kind, Turn, Usage, decoded, found};
use crate::call;
use crate::client::Client;

/// The row.
pub(super) const KIND: Kind = Kind {
    word: "Schedule",
    noun: "schedule",
    message: "quorate.v1.ScheduleSpec",
    canon: |bytes| {
        let (spec, work) = read_schedule(decoded(bytes)?)?;
        Ok(write_schedule(&spec, canonical_work(work)?).encode_to_vec())
    },
    usage: Usage::Declared { get, apply },
};

fn get(client: &Client, name: String, consistency: i32) -> Call<'_, Option<Vec<u8>>> {
    Box::pin(async move {
        let request = v1::GetScheduleRequest { name, consistency };
        let answer = found(call!(client, ScheduleServiceClient, get_schedule, request))?;
        Ok(answer.and_then(|a| a.schedule?.spec).map(|spec| spec.encode_to_vec()))
    })
}

fn apply<'a>(client: &'a Client, turn: Turn<'a>) -> Call<'a, bool> {
    Box::pin(async move {
        let Turn { document, all: _, options } = turn;
        let request = v1::ApplyScheduleRequest {
            spec: Some(document.spec()?),
            options: Some(options),
            ..Default::default()
        };
        Ok(call!(client, ScheduleServiceClient, apply_schedule, request)?.changed)
    })
}
