//! `quorate node`.

use clap::Subcommand;
use quorate_proto::v1;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;

use super::{Ctx, Outcome, operation, pages, run};
use crate::args::{Change, Page, Select, Waiting};
use crate::call;
use crate::confirm;
use crate::failure::{Failure, exit};
use crate::render::style::{self, safe};
use crate::render::table::{self, Columns, dash};
use crate::render::{self, json};

/// Hosts of the fleet
#[derive(Subcommand, Clone, Debug)]
pub enum NodeCommand {
    /// Every node
    #[command(
        alias = "ls",
        after_help = "Examples:\n  quorate node list -l zone=a\n  quorate node list -o json"
    )]
    List {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        page: Page,
    },
    /// One node with facts, instances and metrics
    Show {
        /// Its name
        node: String,
    },
    /// No new disruptive work on a node
    Cordon {
        /// Its name
        node: String,
        #[command(flatten)]
        change: Change,
    },
    /// Lifts a cordon
    Uncordon {
        /// Its name
        node: String,
        #[command(flatten)]
        change: Change,
    },
    /// Cordons a node and stops its instances, as far as the quorum allows
    #[command(after_help = "Examples:\n  quorate node drain node3 --reason 'new disk' --wait --yes")]
    Drain {
        /// Its name
        node: String,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Puts a drained node back
    Undrain {
        /// Its name
        node: String,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Looks for what is wrong with a host
    Diagnose {
        /// Its name
        node: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Takes a node out for good; its certificate is refused at once
    #[command(alias = "rm", after_help = "Examples:\n  quorate node remove node5 --confirm node5")]
    Remove {
        /// Its name
        node: String,
        /// The name again, instead of typing it
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        #[command(flatten)]
        change: Change,
    },
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: NodeCommand) -> Outcome {
    match command {
        NodeCommand::List { select, page } => list(ctx, &select, page.limit).await,
        NodeCommand::Show { node } => show(ctx, node).await,
        NodeCommand::Cordon { node, change } => {
            let request = v1::CordonNodeRequest { name: node, options: Some(change.options()) };
            let answer = call!(ctx.client()?, FleetServiceClient, cordon_node, request)?;
            changed(ctx, answer.node, "cordoned", &change)
        }
        NodeCommand::Uncordon { node, change } => {
            let request = v1::UncordonNodeRequest { name: node, options: Some(change.options()) };
            let answer = call!(ctx.client()?, FleetServiceClient, uncordon_node, request)?;
            changed(ctx, answer.node, "uncordoned", &change)
        }
        NodeCommand::Drain { node, change, waiting } => drain(ctx, node, change, waiting).await,
        NodeCommand::Undrain { node, change, waiting } => undrain(ctx, node, change, waiting).await,
        NodeCommand::Diagnose { node, waiting } => {
            let select = Select { nodes: vec![node], ..Select::default() };
            let spec = run::run_spec("host.diagnose", None, &select, 0, None)?;
            let waiting = Waiting { wait: !waiting.detach, ..waiting };
            operation::start(ctx, spec, Change { yes: true, ..Change::default() }, waiting, "diagnose").await
        }
        NodeCommand::Remove { node, confirm, change } => remove(ctx, node, confirm.as_deref(), change).await,
    }
}

async fn list(ctx: &Ctx, select: &Select, limit: Option<u32>) -> Outcome {
    let client = ctx.client()?;
    let selector = select.selector()?;
    let consistency = ctx.global.consistency();
    let (nodes, token) = pages(limit, |page_token, page_size| {
        let request = v1::ListNodesRequest { selector: selector.clone(), page_size, page_token, consistency };
        let client = &client;
        async move {
            let answer = call!(client, FleetServiceClient, list_nodes, request)?;
            Ok((answer.nodes, answer.next_page_token))
        }
    })
    .await?;
    let answer = v1::ListNodesResponse { nodes, next_page_token: token };
    render::answer(ctx.global.output, &answer, "quorate.v1.ListNodesResponse", Some("nodes"), |wide| {
        node_table(&answer.nodes, wide)
    })?;
    Ok(exit::DONE)
}

fn node_table(nodes: &[v1::Node], wide: bool) -> String {
    let mut header = vec!["node", "status", "scheduling", "drain", "for", "agent", "labels"];
    if wide {
        header.extend(["coordinator", "clock", "instances"]);
    }
    let mut columns = Columns::new(&header);
    for node in nodes {
        let mut row = vec![
            safe(&node.name),
            style::state(&json::word("quorate.v1.NodeStatus", node.status)),
            style::title(&json::word("quorate.v1.NodeScheduling", node.scheduling)),
            style::title(&json::word("quorate.v1.NodeDrain", node.drain)),
            table::age(node.status_since.as_ref()),
            dash(&node.agent_version),
            safe(&table::labels(node.labels.iter())),
        ];
        if wide {
            row.push(dash(&node.coordinator));
            row.push(format!("{:+}ms", node.clock_offset_ms));
            let instances: Vec<&str> = node.instances.iter().map(|i| i.service.as_str()).collect();
            row.push(dash(&instances.join(",")));
        }
        columns.row(row);
    }
    columns.finish("No nodes. `quorate token create` lets the first one in.")
}

async fn show(ctx: &Ctx, name: String) -> Outcome {
    let request = v1::GetNodeRequest { name, consistency: ctx.global.consistency() };
    let answer = call!(ctx.client()?, FleetServiceClient, get_node, request)?;
    let node = answer.node.unwrap_or_default();
    render::answer(ctx.global.output, &node, "quorate.v1.Node", None, |wide| node_text(&node, wide))?;
    Ok(exit::DONE)
}

fn node_text(node: &v1::Node, wide: bool) -> String {
    let mut text = node_table(std::slice::from_ref(node), false);
    if !node.cordon_owner.is_empty() {
        text += &format!("\n\nCordoned by {}: {}", safe(&node.cordon_owner), dash(&node.cordon_reason));
    }
    for condition in &node.conditions {
        text += &format!("\n! {}: {}", safe(&condition.r#type), safe(&condition.message));
    }
    if let Some(facts) = &node.facts {
        text += &format!(
            "\n\nHost        {} ({}, {})\nCPUs        {}\nMemory      {}\nAddresses   {}\n",
            safe(&facts.hostname),
            safe(&facts.os),
            safe(&facts.kernel),
            facts.cpus,
            table::bytes(facts.memory_bytes),
            dash(&facts.addresses.join(", ")),
        );
        for disk in &facts.disks {
            text += &format!(
                "Disk        {} {} of {} free\n",
                safe(&disk.mount),
                table::bytes(disk.available_bytes),
                table::bytes(disk.size_bytes)
            );
        }
    }
    if !node.instances.is_empty() {
        let mut columns = Columns::new(&["service", "wanted", "observed", "role", "sync", "up"]);
        for instance in &node.instances {
            columns.row([
                safe(&instance.service),
                style::title(&instance.desired),
                style::state(&json::word("quorate.v1.InstanceState", instance.observed)),
                style::title(&json::word("quorate.v1.InstanceRole", instance.role)),
                style::title(&json::word("quorate.v1.InstanceSync", instance.sync)),
                table::age(instance.up_since.as_ref()),
            ]);
        }
        text += &format!("\n{}\n", columns.finish(""));
    }
    if wide {
        for metric in &node.metrics {
            let labels = table::labels(metric.labels.iter());
            text += &format!("{}{{{}}} {}\n", safe(&metric.name), safe(&labels), metric.value);
        }
    }
    text
}

fn changed(ctx: &Ctx, node: Option<v1::Node>, verb: &str, change: &Change) -> Outcome {
    let node = node.unwrap_or_default();
    let would = if change.dry_run { "would be " } else { "" };
    render::answer(ctx.global.output, &node, "quorate.v1.Node", None, |_| {
        format!("{} {would}{verb}", safe(&node.name))
    })?;
    Ok(exit::DONE)
}

async fn drain(ctx: &Ctx, node: String, change: Change, waiting: Waiting) -> Outcome {
    confirm::ask(&ctx.global, &change, &format!("Drain {node}: its instances are stopped (1 node)"))?;
    let request = v1::DrainNodeRequest { name: node.clone(), options: Some(change.options()) };
    let client = ctx.client()?;
    let answer = call!(client, FleetServiceClient, drain_node, request)?;
    if answer.operation.is_empty() || change.dry_run {
        return changed(ctx, answer.node, "drained", &change);
    }
    operation::follow(ctx, &client, &answer.operation, &waiting).await
}

async fn undrain(ctx: &Ctx, node: String, change: Change, waiting: Waiting) -> Outcome {
    let request = v1::UndrainNodeRequest { name: node, options: Some(change.options()) };
    let client = ctx.client()?;
    let answer = call!(client, FleetServiceClient, undrain_node, request)?;
    if answer.operation.is_empty() || change.dry_run {
        return changed(ctx, answer.node, "undrained", &change);
    }
    operation::follow(ctx, &client, &answer.operation, &waiting).await
}

async fn remove(ctx: &Ctx, node: String, confirmed: Option<&str>, change: Change) -> Outcome {
    if !change.yes {
        let what = format!("{node} is taken out for good and must enrol anew to come back");
        confirm::ask_name(&ctx.global, &change, confirmed, &node, &what)?;
    } else if confirmed.is_some_and(|given| given != node) {
        return Err(Failure::usage(format!("--confirm does not name {node}; nothing was changed")));
    }
    let request = v1::RemoveNodeRequest { name: node, options: Some(change.options()) };
    let answer = call!(ctx.client()?, FleetServiceClient, remove_node, request)?;
    changed(ctx, answer.node, "removed", &change)
}
