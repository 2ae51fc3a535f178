//! `kind: Window`.

use prost::Message as _;
use quorate_common::wire::window::{read_window, write_window};
use quorate_proto::v1;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;

use super::{Call, Kind, Turn, Usage, decoded, found};
use crate::call;
use crate::client::Client;

/// The row.
pub(super) const KIND: Kind = Kind {
    word: "Window",
    noun: "window",
    message: "quorate.v1.WindowSpec",
    canon: |bytes| Ok(write_window(&read_window(decoded(bytes)?)?).encode_to_vec()),
    usage: Usage::Declared { get, apply },
};

fn get(client: &Client, name: String, consistency: i32) -> Call<'_, Option<Vec<u8>>> {
    Box::pin(async move {
        let request = v1::GetWindowRequest { name, consistency };
        let answer = found(call!(client, ScheduleServiceClient, get_window, request))?;
        Ok(answer.and_then(|a| a.window?.spec).map(|spec| spec.encode_to_vec()))
    })
}

fn apply<'a>(client: &'a Client, turn: Turn<'a>) -> Call<'a, bool> {
    Box::pin(async move {
        let Turn { document, all: _, options } = turn;
        let request = v1::ApplyWindowRequest {
            spec: Some(document.spec()?),
            options: Some(options),
            ..Default::default()
        };
        Ok(call!(client, ScheduleServiceClient, apply_window, request)?.changed)
    })
}
