//! FleetService: nodes, and the right to join.

use std::collections::BTreeMap;

use quorate_common::wire::Invalid;
use quorate_common::wire::selector::read_optional_selector;
use quorate_common::wire::text::{read_label_key, read_labels, read_name};
use quorate_core::command::NodeCommand;
use quorate_core::state::node::LABELS_MAX;
use quorate_core::{Command, State};
use quorate_model::{NodeName, NodeStatus};
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
        let mut found = None;
        self.backend().detail(name, &mut |detail| {
            found = Some(self.one_node(name, Some(detail), depth));
        });
        found.unwrap_or_else(|| self.one_node(name, None, depth))
    }

    fn one_node(
        &self,
        name: &NodeName,
        detail: Option<&super::backend::NodeDetail>,
        depth: Depth,
    ) -> Result<(v1::Node, u64), Failure> {
        self.look_around(|state, obs, now| {
            let node =
                state.nodes.by_name.get(name).ok_or_else(|| Failure::not_found("node", name.as_str()))?;
            Ok((show(state, obs, detail, node, depth, now), state.revision.0))
        })
    }

    async fn list_nodes(
        &self,
        request: v1::ListNodesRequest,
    ) -> Result<Served<v1::ListNodesResponse>, Failure> {
        let v1::ListNodesRequest { selector, page_size, page_token, consistency } = request;
        let selector = read_optional_selector("selector", selector)?;
        let page = Page::read(page_size, &page_token, PAGE)?;
        self.fresh(consistency).await?;
        let (names, next, index) = self.look(|state| {
            // A removed node is shown only when it is asked for by its very name.
            let nodes = state.nodes.by_name.values().filter(|n| match &selector {
                None => n.status != NodeStatus::Removed,
                Some(s) => {
                    let named = s.names.iter().any(|name| name == n.name.as_str());
                    s.matches(n.name.as_str(), &n.labels) && (named || n.status != NodeStatus::Removed)
                }
            });
            let (names, next) = page.cut(nodes.map(|n| n.name.clone()), |name| name.as_str().to_owned());
            (names, next, state.revision.0)
        });
        let mut nodes = Vec::with_capacity(names.len());
        for name in &names {
            // One that went in between is left out: it is not there any more.
            if let Ok((node, _)) = self.node_view(name, Depth::List) {
                nodes.push(node);
            }
        }
        Ok(Served { message: v1::ListNodesResponse { nodes, next_page_token: next }, index })
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
        command: impl FnOnce(&Self, NodeName, &Change) -> Result<NodeCommand, Failure>,
    ) -> Result<(v1::Node, u64), Failure> {
        let change = self.change(caller, options)?;
        let name: NodeName = read_name("name", name)?;
        let command = command(self, name.clone(), &change)?;
        let (index, _) = self.propose(caller, &change, Command::Node(command)).await?;
        Ok((self.node_view(&name, Depth::List)?.0, index))
    }
}

/// The labels of a node after a change: `set` over what is there, without `remove`.
fn merged(
    state: &State,
    name: &NodeName,
    set: &BTreeMap<String, String>,
    remove: &[String],
) -> Result<BTreeMap<String, String>, Failure> {
    let node = state.nodes.present(name).ok_or_else(|| Failure::not_found("node", name.as_str()))?;
    let mut labels = node.labels.clone();
    for key in remove {
        labels.remove(key);
    }
    labels.extend(set.clone());
    Ok(labels)
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
            let command =
                |_: &Api, node, c: &Change| Ok(NodeCommand::Cordon { node, reason: c.reason.clone() });
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
            let command = |_: &Api, node, _: &Change| Ok(NodeCommand::Uncordon { node });
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
            // What is merged into must be what a quorum knows.
            api.backend().linearize().await?;
            let command = |api: &Api, node: NodeName, _: &Change| {
                let labels = api.look(|state| merged(state, &node, &set, &remove))?;
                Ok(NodeCommand::SetLabels { node, labels })
            };
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
            let command = |_: &Api, node, _: &Change| Ok(NodeCommand::Remove { node });
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
