//! `quorate service`.

use clap::{Args, Subcommand};
use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;

use super::{Ctx, Outcome, apply, operation, pages, run};
use crate::args::{Change, Page, Select, Waiting};
use crate::call;
use crate::confirm;
use crate::failure::exit;
use crate::render::style::{self, safe};
use crate::render::table::{self, Columns};
use crate::render::{self, json};

/// Services: what runs where
#[derive(Subcommand, Clone, Debug)]
pub enum ServiceCommand {
    /// Every service
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// One service with its instances
    Show {
        /// Its name
        service: String,
    },
    /// Declares services from a file
    Apply(apply::ApplyArgs),
    /// Deletes a service that no group uses
    #[command(alias = "rm")]
    Delete {
        /// Its name
        service: String,
        #[command(flatten)]
        change: Change,
    },
    /// State of the units, asked on the hosts
    Status(OnNodes),
    /// Starts instances
    #[command(after_help = "Examples:\n  quorate service start ledger --node node2 --wait")]
    Start(OnNodes),
    /// Stops instances, where the quorum allows it
    Stop(OnNodes),
    /// Restarts instances, where the quorum allows it
    #[command(
        after_help = "Examples:\n  quorate service restart ledger --node node2 --wait --yes\n\nFor a whole group with gates between the nodes: quorate rollout start --restart GROUP"
    )]
    Restart(OnNodes),
    /// Makes instances read their configuration again
    Reload(OnNodes),
}

/// A service on nodes.
#[derive(Args, Clone, Debug)]
pub struct OnNodes {
    /// Service name
    pub service: String,
    #[command(flatten)]
    select: Select,
    /// Nodes at once; 0 leaves it to the planner (one at a time for what disrupts)
    #[arg(long, default_value_t = 0, value_name = "N")]
    parallel: u32,
    /// How long the gates of one node may take (of what starts, restarts or reloads)
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    gate_timeout: Option<std::time::Duration>,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    waiting: Waiting,
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: ServiceCommand) -> Outcome {
    match command {
        ServiceCommand::List { page } => list(ctx, page.limit).await,
        ServiceCommand::Show { service } => show(ctx, service).await,
        ServiceCommand::Apply(args) => apply::run(ctx, args, Some("Service")).await,
        ServiceCommand::Delete { service, change } => {
            confirm::ask(&ctx.global, &change, &format!("Delete service {service}"))?;
            let request = v1::DeleteServiceRequest { name: service.clone(), options: Some(change.options()) };
            call!(ctx.client()?, GroupServiceClient, delete_service, request)?;
            render::print(&format!("{} deleted", safe(&service)))?;
            Ok(exit::DONE)
        }
        ServiceCommand::Status(on) => act(ctx, on, "service.status", "Look at", false).await,
        ServiceCommand::Start(on) => act(ctx, on, "service.start", "Start", false).await,
        ServiceCommand::Stop(on) => act(ctx, on, "service.stop", "Stop", true).await,
        ServiceCommand::Restart(on) => act(ctx, on, "service.restart", "Restart", true).await,
        ServiceCommand::Reload(on) => act(ctx, on, "service.reload", "Reload", true).await,
    }
}

async fn act(ctx: &Ctx, on: OnNodes, action: &str, verb: &str, asks: bool) -> Outcome {
    let spec = run::run_spec(action, Some(&on.service), &on.select, on.parallel, on.gate_timeout)?;
    let mut change = on.change;
    if !asks {
        change.yes = true;
    }
    let mut waiting = on.waiting;
    if action == "service.status" && !waiting.detach {
        waiting.wait = true;
    }
    operation::start(ctx, spec, change, waiting, &format!("{verb} {}", on.service)).await
}

async fn list(ctx: &Ctx, limit: Option<u32>) -> Outcome {
    let client = ctx.client()?;
    let consistency = ctx.global.consistency();
    let (services, token) = pages(limit, |page_token, page_size| {
        let client = &client;
        async move {
            let request = v1::ListServicesRequest { page_size, page_token, consistency };
            let answer = call!(client, GroupServiceClient, list_services, request)?;
            Ok((answer.services, answer.next_page_token))
        }
    })
    .await?;
    let answer = v1::ListServicesResponse { services, next_page_token: token };
    render::answer(ctx.global.output, &answer, "quorate.v1.ListServicesResponse", Some("services"), |_| {
        let mut columns = Columns::new(&["service", "driver", "instances", "healthy", "probes"]);
        for service in &answer.services {
            let spec = service.spec.clone().unwrap_or_default();
            let healthy = v1::InstanceState::Healthy as i32;
            let well = service.instances.iter().filter(|i| i.observed == healthy).count();
            columns.row([
                safe(&service.name),
                driver(&spec),
                service.instances.len().to_string(),
                well.to_string(),
                spec.probes.len().to_string(),
            ]);
        }
        columns.finish("No services. `quorate apply -f FILE` declares one.")
    })?;
    Ok(exit::DONE)
}

fn driver(spec: &v1::ServiceSpec) -> String {
    match spec.driver.as_ref().and_then(|d| d.kind.as_ref()) {
        Some(v1::driver::Kind::SystemdUnit(unit)) => safe(unit),
        Some(v1::driver::Kind::Process(name)) => format!("process {}", safe(name)),
        None => "-".to_owned(),
    }
}

async fn show(ctx: &Ctx, name: String) -> Outcome {
    let request = v1::GetServiceRequest { name, consistency: ctx.global.consistency() };
    let answer = call!(ctx.client()?, GroupServiceClient, get_service, request)?;
    let service = answer.service.unwrap_or_default();
    render::answer(ctx.global.output, &service, "quorate.v1.Service", None, |wide| {
        let mut columns = Columns::new(&["node", "wanted", "observed", "role", "sync", "up", "reading"]);
        for instance in &service.instances {
            columns.row([
                safe(&instance.node),
                style::title(&instance.desired),
                style::state(&json::word("quorate.v1.InstanceState", instance.observed)),
                style::title(&json::word("quorate.v1.InstanceRole", instance.role)),
                style::title(&json::word("quorate.v1.InstanceSync", instance.sync)),
                table::age(instance.up_since.as_ref()),
                format!("{} ago", quorate_model::DurationMs(instance.reading_age_ms)),
            ]);
        }
        let mut text = columns.finish("No instances: no node matches the service's selector.");
        if wide {
            for instance in &service.instances {
                for probe in &instance.probes {
                    let verdict = if probe.ok { "ok" } else { "FAILED" };
                    text += &format!(
                        "\n{}  {} from {}: {verdict} x{} {}",
                        safe(&instance.node),
                        safe(&probe.probe),
                        safe(&probe.from),
                        probe.passes.max(probe.failures),
                        safe(&probe.detail)
                    );
                }
            }
        }
        text
    })?;
    Ok(exit::DONE)
}
