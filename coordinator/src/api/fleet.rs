//! FleetService: nodes, and the right to join.

use std::collections::BTreeMap;

use quorate_common::wire::Invalid;
use quorate_common::wire::selector::read_optional_selector;
use quorate_common::wire::text::{read_label_key, read_labels, read_name};
use quorate_core::command::NodeCommand;
use quorate_core::state::Node;
use quorate_core::state::node::LABELS_MAX;
use quorate_core::{Command, Observations, State};
use quorate_model::{NodeName, NodeStatus, Timestamp};
use quorate_proto::v1;
use quorate_proto::v1::fleet_service_server::FleetService;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::context::{Api, Change, Served};
use super::page::Page;
use super::status::Failure;
use super::view::node::{Depth, node as show};
use super::{drain, tokens};

/// Nodes on one page when the request says none (proto).
const PAGE: u32 = 200;

impl Api {
    /// A node as it stands here now.
    pub(super) fn node_view(&self, name: &NodeName, depth: Depth) -> Result<(v1::Node, u64), Failure> {
        self.look_around(|state, obs, now| {
            let node = state.nodes.by_name.get(name);
            let node = node.ok_or_else(|| Failure::not_found("node", name.as_str(), state.revision.0))?;
            Ok((self.shown((state, obs, now), node, depth), state.revision.0))
        })
    }

    /// With what only the leader's memory holds of it, if this is the leader.
    fn shown(&self, at: (&State, &Observations, Timestamp), node: &Node, depth: Depth) -> v1::Node {
        let (state, obs, now) = at;
        let mut found = None;
        self.backend().detail(&node.name, &mut |detail| {
            found = Some(show(state, obs, Some(detail), node, depth, now));
        });
        found.unwrap_or_else(|| show(state, obs, None, node, depth, now))
    }

    async fn list_nodes(
        &self,
        request: v1::ListNodesRequest,
    ) -> Result<Served<v1::ListNodesResponse>, Failure> {
        let v1::ListNodesRequest { selector, page_size, page_token, consistency } = request;
        let selector = read_optional_selector("selector", selector)?;
        let page = Page::read(page_size, &page_token, PAGE)?;
        self.fresh(consistency).await?;
        // One look for all of them: the answer is the list at its index, not a mixture.
        Ok(self.look_around(|state, obs, now| {
            // A removed node is shown only when it is asked for by its very name.
            let nodes = state.nodes.by_name.values().filter(|n| match &selector {
                None => n.status != NodeStatus::Removed,
                Some(s) => {
                    let named = s.names.iter().any(|name| name == n.name.as_str());
                    s.matches(n.name.as_str(), &n.labels) && (named || n.status != NodeStatus::Removed)
                }
            });
            let (nodes, next_page_token) = page.cut(nodes, |node| node.name.as_str().to_owned());
            let shown = |node: &Node| self.shown((state, obs, now), node, Depth::List);
            let nodes = nodes.into_iter().map(shown).collect();
            Served { message: v1::ListNodesResponse { nodes, next_page_token }, index: state.revision.0 }
        }))
    }

    async fn get_node(&self, request: v1::GetNodeRequest) -> Result<Served<v1::GetNodeResponse>, Failure> {
        let v1::GetNodeRequest { name, consistency } = request;
        let name = read_name("name", name)?;
        self.fresh(consistency).await?;
        let (node, index) = self.node_view(&name, Depth::Whole)?;
        Ok(Served { message: v1::GetNodeResponse { node: Some(node) }, index })
    }

    /// Proposes a change of a node and shows it.
    async fn change_node(
        &self,
        caller: &Caller,
        options: Option<v1::ChangeOptions>,
        name: String,
        command: impl FnOnce(NodeName, &Change) -> NodeCommand,
    ) -> Result<(v1::Node, u64), Failure> {
        let change = self.change(caller, options)?;
        let name: NodeName = read_name("name", name)?;
        let command = command(name.clone(), &change);
        let (index, _) = self.propose(caller, &change, Command::Node(command)).await?;
        Ok((self.node_view(&name, Depth::List)?.0, index))
    }
}

fn read_removals(remove: &[String], set: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if remove.len() > LABELS_MAX {
        return Err(Invalid::new("remove", format!("{} entries, {LABELS_MAX} is the limit", remove.len())));
    }
    if set.is_empty() && remove.is_empty() {
        return Err(Invalid::new("set", "nothing is to be set or removed"));
    }
    for (index, key) in remove.iter().enumerate() {
        read_label_key(&format!("remove[{index}]"), key)?;
        if set.contains_key(key) {
            return Err(Invalid::new(format!("remove[{index}]"), "the same label is set, too"));
        }
    }
    Ok(())
}

#[tonic::async_trait]
impl FleetService for Api {
    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.list_nodes(m).await }).await
    }

    async fn get_node(
        &self,
        request: Request<v1::GetNodeRequest>,
    ) -> Result<Response<v1::GetNodeResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.get_node(m).await }).await
    }

    async fn cordon_node(
        &self,
        request: Request<v1::CordonNodeRequest>,
    ) -> Result<Response<v1::CordonNodeResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::CordonNodeRequest { name, options } = m;
            let command = |node, c: &Change| NodeCommand::Cordon { node, reason: c.reason.clone() };
            let (node, index) = api.change_node(&caller, options, name, command).await?;
            Ok(Served { message: v1::CordonNodeResponse { node: Some(node) }, index })
        })
        .await
    }

    async fn uncordon_node(
        &self,
        request: Request<v1::UncordonNodeRequest>,
    ) -> Result<Response<v1::UncordonNodeResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::UncordonNodeRequest { name, options } = m;
            let command = |node, _: &Change| NodeCommand::Uncordon { node };
            let (node, index) = api.change_node(&caller, options, name, command).await?;
            Ok(Served { message: v1::UncordonNodeResponse { node: Some(node) }, index })
        })
        .await
    }

    async fn drain_node(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        self.serve(request, |api, caller, m| async move { drain::drain(&api, &caller, m).await }).await
    }

    async fn undrain_node(
        &self,
        request: Request<v1::UndrainNodeRequest>,
    ) -> Result<Response<v1::UndrainNodeResponse>, Status> {
        self.serve(request, |api, caller, m| async move { drain::undrain(&api, &caller, m).await }).await
    }

    async fn update_node_labels(
        &self,
        request: Request<v1::UpdateNodeLabelsRequest>,
    ) -> Result<Response<v1::UpdateNodeLabelsResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::UpdateNodeLabelsRequest { name, set, remove, options } = m;
            let set = read_labels("set", set)?;
            read_removals(&remove, &set)?;
            let command = |node, _: &Change| NodeCommand::UpdateLabels { node, set, remove };
            let (node, index) = api.change_node(&caller, options, name, command).await?;
            Ok(Served { message: v1::UpdateNodeLabelsResponse { node: Some(node) }, index })
        })
        .await
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::RemoveNodeRequest { name, options } = m;
            let command = |node, _: &Change| NodeCommand::Remove { node };
            let (node, index) = api.change_node(&caller, options, name, command).await?;
            Ok(Served { message: v1::RemoveNodeResponse { node: Some(node) }, index })
        })
        .await
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        self.serve(request, |api, caller, m| async move { tokens::create(&api, &caller, m).await }).await
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        self.serve(request, |api, _, m| async move { tokens::list(&api, m).await }).await
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        self.serve(request, |api, caller, m| async move { tokens::revoke(&api, &caller, m).await }).await
    }
}
