//! Connections to fellow members, with this member's live certificate.

use std::sync::Arc;

use quorate_common::tls::{Address, ChannelLimits, ExpectedServer, LiveTls, channel};
use quorate_model::MemberId;
use tonic::transport::Channel;

use crate::raft::{Dial, Purpose};

/// Dials members; the certificate found must be that member's.
pub(super) struct Dialer {
    pub(super) tls: Arc<LiveTls>,
}

impl Dial for Dialer {
    fn channel(&self, target: u64, address: &str, _purpose: Purpose) -> Result<Channel, String> {
        let address: Address = address.parse().map_err(|e| format!("{e}"))?;
        let tls = self.tls.client(ExpectedServer::Member(MemberId(target))).map_err(|e| e.to_string())?;
        channel(&address, &tls, &ChannelLimits::default()).map_err(|e| e.to_string())
    }
}
