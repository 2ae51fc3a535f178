//! Passing a whole call on to the leader.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use quorate_core::State;
use tonic::transport::Channel;
use tower::ServiceExt;

use crate::api::backend::{ForwardError, LeaderForward};
use crate::raft::{Dial, Purpose, RaftNode};

/// Sends calls to whoever leads, over one connection that is kept.
pub(super) struct Forward {
    node: RaftNode<State>,
    dial: Arc<dyn Dial>,
    kept: Mutex<Option<(u64, String, Channel)>>,
}

impl Forward {
    pub(super) fn new(node: RaftNode<State>, dial: Arc<dyn Dial>) -> Self {
        Self { node, dial, kept: Mutex::new(None) }
    }

    fn channel(&self) -> Result<Channel, ForwardError> {
        let (leader, address) = self.node.status().leader.ok_or(ForwardError::NoLeader)?;
        if leader == self.node.id() {
            // It became leader between the gate's look and this one: the caller asks again and is served here.
            return Err(ForwardError::NoLeader);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, at, channel)) = &*kept
            && (*id, at) == (leader, &address)
        {
            return Ok(channel.clone());
        }
        let channel =
            self.dial.channel(leader, &address, Purpose::Control).map_err(ForwardError::Unreachable)?;
        *kept = Some((leader, address, channel.clone()));
        Ok(channel)
    }
}

impl LeaderForward for Forward {
    fn forward(
        &self,
        request: http::Request<tonic::body::Body>,
    ) -> BoxFuture<'_, Result<http::Response<tonic::body::Body>, ForwardError>> {
        Box::pin(async move {
            let mut channel = self.channel()?;
            let ready = channel.ready().await.map_err(|e| ForwardError::Unreachable(e.to_string()))?;
            let answered = tower::Service::call(ready, request).await;
            answered.map_err(|e| ForwardError::NoReply(e.to_string()))
        })
    }
}
