//! `quorate rollout`: rolling changes.

use clap::{Args, Subcommand};
use quorate_proto::v1;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_proto::v1::work_spec::Kind;

use super::{Ctx, Outcome, operation, pages, run};
use crate::args::{Change, Page, Select, Waiting};
use crate::call;
use crate::failure::{Failure, exit};
use crate::files::{self, Document};
use crate::render;

/// Rolling changes that cannot break quorum
#[derive(Subcommand, Clone, Debug)]
pub enum RolloutCommand {
    /// Computes a plan with the guards of the real run; changes nothing
    #[command(
        after_help = "Examples:\n  quorate rollout plan --restart ledger\n  quorate rollout plan ledger --release 1.9.2 --artifact 5f3a… --canary 1 --hold 10m\n  quorate rollout plan --restart ledger --order zone --zone-label rack\n  quorate rollout plan -f rollout.yaml --diff --detailed-exitcode   # 8: something would change\n  quorate rollout plan -f rollout.yaml -o json"
    )]
    Plan {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        form: operation::Form,
        #[command(flatten)]
        change: Change,
    },
    /// Starts a rolling change
    #[command(
        after_help = "Examples:\n  quorate rollout start --restart ledger --wait --yes\n  quorate rollout start ledger --release 1.9.2 --artifact 5f3a… --canary 1 --promotion canary --on-failure rollback --backup-first\n  quorate rollout start ledger --config settings --release 7 --artifact 5f3a… --canary 1 --on-failure rollback\n  quorate rollout start --plan p-93c1… --detach\n  quorate rollout start --plan p-93c1…@9c1f2ab4 --yes   # and with this hash only\n  quorate rollout start --restart ledger --dry-run --diff --detailed-exitcode\n  quorate rollout start --backup ledger --all --wait\n  quorate rollout start ledger --run ledger-compact --wait\n  quorate rollout start ledger --rotate-secret token --on-failure rollback --detach"
    )]
    Start {
        #[command(flatten)]
        what: What,
        /// A stored plan, with its hash or the first 8 digits of it; refused when what it touches has moved
        #[arg(long, value_name = "ID[@HASH]", conflicts_with_all = ["restart", "reload", "backup", "rotate", "file", "group", "canary", "ramp", "hold", "promotion", "order", "zone_label", "on_failure", "backup_first"])]
        plan: Option<String>,
        #[command(flatten)]
        form: operation::Form,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Rollouts, newest first
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// One rollout
    #[command(alias = "status")]
    Show {
        /// Its id
        id: String,
    },
    /// Follows a rollout until it ends; Ctrl-C detaches and cancels nothing
    #[command(
        after_help = "Examples:\n  quorate rollout watch r-7f3a\n  quorate rollout watch r-7f3a --timeout 10m"
    )]
    Watch {
        /// Its id
        id: String,
        /// Give up after this time, exit code 5; the rollout goes on
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        timeout: Option<std::time::Duration>,
    },
    /// Lets the wave after one that waits for its promotion begin
    #[command(
        after_help = "Examples:\n  quorate rollout promote r-7f3a\n  quorate rollout promote r-7f3a --all --wait"
    )]
    Promote {
        #[command(flatten)]
        verb: operation::Verb,
        /// All waves that are still to be promoted, those to come as well
        #[arg(long)]
        all: bool,
    },
    /// Brings the release back that a group had before
    #[command(
        after_help = "Examples:\n  quorate rollout undo ledger --dry-run\n  quorate rollout undo ledger --wait --yes"
    )]
    Undo {
        /// Group
        group: String,
        /// Bring this configuration file of its service back, and not its program
        #[arg(long, value_name = "NAME")]
        config: Option<String>,
        #[command(flatten)]
        advance: Advance,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// The releases that rollouts have brought to a group, newest first
    #[command(
        after_help = "Examples:\n  quorate rollout history ledger\n  quorate rollout history ledger -o json"
    )]
    History {
        /// Group
        group: String,
        /// Of this configuration file of its service, and not of its program
        #[arg(long, value_name = "NAME")]
        config: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Stops at the next safe point
    Pause(operation::Verb),
    /// Goes on
    Resume(operation::Verb),
    /// Ends it at the next safe point
    #[command(alias = "cancel")]
    Abort(operation::Verb),
}

/// What to change.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What")]
pub struct What {
    /// Group that gets the release, whose members run the hook, or whose secret is rotated
    #[arg(value_name = "GROUP", requires = "of_group")]
    group: Option<String>,
    /// Bring this version to every member of the group, then put it to use
    #[arg(long, value_name = "VERSION", groups = ["kind", "of_group"], requires_all = ["group", "artifact"])]
    release: Option<String>,
    /// Run this hook of the hosts on every member of the group, one after the other
    #[arg(long, value_name = "HOOK", groups = ["kind", "of_group"], requires = "group")]
    run: Option<String>,
    /// Rotate this secret of the group's service in two phases: the new one on every member, each confirmed; after its grace the one before is removed
    #[arg(long, value_name = "NAME", groups = ["kind", "of_group"], requires = "group")]
    rotate_secret: Option<String>,
    /// What becomes of the hook that the service runs once for each release
    #[arg(long, value_enum, default_value_t, requires = "release", value_name = "CHOICE")]
    migrate: Migrate,
    /// The release's artifact: its sha256, or as much of the beginning as names one
    #[arg(long, value_name = "DIGEST", requires = "release")]
    artifact: Option<String>,
    /// The release is of this configuration file of the group's service, and not of its program
    #[arg(long, value_name = "NAME", requires = "release")]
    config: Option<String>,
    /// Restart every member of a group
    #[arg(long, value_name = "GROUP", group = "kind")]
    restart: Option<String>,
    /// Reload every member of a group
    #[arg(long, value_name = "GROUP", group = "kind")]
    reload: Option<String>,
    /// Back up every instance of a service
    #[arg(long, value_name = "SERVICE", group = "kind")]
    backup: Option<String>,
    /// Rotate the logs of every instance of a service
    #[arg(long, value_name = "SERVICE", group = "kind")]
    rotate: Option<String>,
    /// A file with `kind: Rollout`
    #[arg(short, long, value_name = "FILE", group = "kind")]
    file: Option<std::path::PathBuf>,
    /// Instances changed at once; never beyond what the quorum allows
    #[arg(long, default_value_t = 0, value_name = "N")]
    max_unavailable: u32,
    /// Failed nodes tolerated before it stops
    #[arg(long, default_value_t = 0, value_name = "N")]
    max_failures: u32,
    /// How long the gates of one node may take
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    gate_timeout: Option<std::time::Duration>,
    #[command(flatten)]
    advance: Advance,
    #[command(flatten)]
    select: Select,
}

/// Which waves wait for a person.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promotion {
    /// None: the gates decide
    #[default]
    Automatic,
    /// The canary
    Canary,
    /// Every wave but the last
    Every,
}

/// What becomes of the run-once hook of a release.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Migrate {
    /// It is run unless it was for this release; what nobody can tell is refused
    #[default]
    Auto,
    /// It is not run: you have seen that it need not be
    Skip,
    /// It is run once more: you have seen that it may be
    Again,
}

impl Migrate {
    const fn choice(self) -> v1::MigrationChoice {
        match self {
            Self::Auto => v1::MigrationChoice::Unspecified,
            Self::Skip => v1::MigrationChoice::Skip,
            Self::Again => v1::MigrationChoice::Again,
        }
    }
}

/// What happens when more has failed than is tolerated.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It fails at a safe stop
    #[default]
    Abort,
    /// It pauses; resume or abort it
    Pause,
    /// What was changed is changed back; only for releases
    Rollback,
}

/// By what the members of a group are ordered.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Learners, followers, the leader last
    #[default]
    Role,
    /// One zone is done before the next begins, that of the leader last
    Zone,
}

/// How it advances from wave to wave.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Waves")]
pub struct Advance {
    /// Instances changed in the first wave
    #[arg(long, default_value_t = 0, value_name = "N")]
    canary: u32,
    /// Sizes of the waves after it, the last one again and again: 1,5,20%
    #[arg(long, value_delimiter = ',', value_name = "SHARES")]
    ramp: Vec<String>,
    /// How long each wave is looked at before the next one begins
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    hold: Option<std::time::Duration>,
    /// Which waves wait for `quorate rollout promote`
    #[arg(long, value_enum, default_value_t)]
    promotion: Promotion,
    /// By what the members are ordered
    #[arg(long, value_enum, default_value_t)]
    order: Order,
    /// The label of nodes that names their zone; `zone` when it is not given
    #[arg(long, value_name = "KEY")]
    zone_label: Option<String>,
    /// What happens when more has failed than is tolerated
    #[arg(long, value_enum, default_value_t)]
    on_failure: OnFailure,
    /// Stores a copy of each instance before it is disturbed
    #[arg(long)]
    backup_first: bool,
}

impl Advance {
    fn waves(&self) -> Result<Option<v1::WavePolicy>, Failure> {
        let Self { canary, ramp, hold, promotion, order, zone_label, on_failure: _, backup_first: _ } = self;
        let order = match (order, zone_label) {
            (Order::Zone, _) => v1::RolloutOrder::Zone,
            (Order::Role, None) => v1::RolloutOrder::Unspecified,
            (Order::Role, Some(_)) => return Err(Failure::usage("--zone-label goes with --order zone")),
        };
        let promotion = match promotion {
            Promotion::Automatic => v1::Promotion::Automatic,
            Promotion::Canary => v1::Promotion::Canary,
            Promotion::Every => v1::Promotion::Every,
        };
        let hold = hold
            .map(prost_types::Duration::try_from)
            .transpose()
            .map_err(|_| Failure::usage("--hold: the time is too long"))?;
        let policy = v1::WavePolicy {
            canary: *canary,
            ramp: ramp.clone(),
            hold,
            promotion: promotion.into(),
            order: order.into(),
            zone_label: zone_label.clone().unwrap_or_default(),
        };
        let plain = v1::WavePolicy { promotion: v1::Promotion::Automatic.into(), ..Default::default() };
        Ok((policy != plain).then_some(policy))
    }

    const fn on_failure(&self) -> v1::OnFailure {
        match self.on_failure {
            OnFailure::Abort => v1::OnFailure::Unspecified,
            OnFailure::Pause => v1::OnFailure::Pause,
            OnFailure::Rollback => v1::OnFailure::Rollback,
        }
    }

    /// Refuses what only a rolling change of a group can do.
    fn none(&self) -> Result<(), Failure> {
        if *self == Self::default() {
            return Ok(());
        }
        let flags = "--canary, --ramp, --hold, --promotion, --order, --on-failure and --backup-first";
        Err(Failure::usage(format!(
            "{flags} go with --release, --run, --rotate-secret, --restart and --reload"
        ))
        .with_hint("in a file they stand under rolling: waves: and onFailure:"))
    }
}

impl What {
    /// What to do, and the document that says so, if one does.
    fn spec(&self) -> Result<(v1::WorkSpec, Option<Document>), Failure> {
        if let (Some(version), Some(group)) = (&self.release, &self.group) {
            return Ok((self.release(group, version)?, None));
        }
        if let (Some(hook), Some(group)) = (&self.run, &self.group) {
            return Ok((self.upkeep(group, hook)?, None));
        }
        if let (Some(secret), Some(group)) = (&self.rotate_secret, &self.group) {
            return Ok((self.rotation(group, secret)?, None));
        }
        if self.restart.is_none() && self.reload.is_none() {
            self.advance.none()?;
        }
        let mut spec = match (&self.restart, &self.reload, &self.backup, &self.rotate, &self.file) {
            (Some(group), ..) => self.rolling(group, v1::RollingKind::Restart)?,
            (_, Some(group), ..) => self.rolling(group, v1::RollingKind::Reload)?,
            (_, _, Some(service), ..) => run::backup_spec(service, &self.select, self.max_unavailable)?,
            (_, _, _, Some(service), _) => run::rotate_spec(service, &self.select, self.max_unavailable)?,
            (_, _, _, _, Some(file)) => {
                let (spec, document) = files::rollout(file)?;
                return Ok((spec, Some(document)));
            }
            (None, None, None, None, None) => {
                return Err(Failure::usage("nothing to change was named").with_hint(
                    "give GROUP --release VERSION --artifact DIGEST, GROUP --run HOOK, GROUP --rotate-secret NAME, --restart GROUP, --reload GROUP, --backup SERVICE, --rotate SERVICE or -f FILE",
                ));
            }
        };
        spec.max_failures = self.max_failures;
        Ok((spec, None))
    }

    fn rolling(&self, group: &str, kind: v1::RollingKind) -> Result<v1::WorkSpec, Failure> {
        let rolling = v1::RollingSpec {
            group: group.to_owned(),
            kind: kind.into(),
            max_unavailable: self.max_unavailable,
            selector: self.select.selector()?,
            gate_timeout: run::read_gate_timeout(self.gate_timeout)?,
            waves: self.advance.waves()?,
            on_failure: self.advance.on_failure().into(),
            backup_first: self.advance.backup_first,
            ..v1::RollingSpec::default()
        };
        Ok(v1::WorkSpec { kind: Some(Kind::Rolling(rolling)), max_failures: 0 })
    }

    fn release(&self, group: &str, version: &str) -> Result<v1::WorkSpec, Failure> {
        let mut spec = self.rolling(group, v1::RollingKind::Release)?;
        if let Some(Kind::Rolling(rolling)) = &mut spec.kind {
            version.clone_into(&mut rolling.version);
            rolling.artifact = self.artifact.clone().unwrap_or_default();
            rolling.config = self.config.clone().unwrap_or_default();
            rolling.migration = self.migrate.choice().into();
        }
        spec.max_failures = self.max_failures;
        Ok(spec)
    }

    fn rotation(&self, group: &str, secret: &str) -> Result<v1::WorkSpec, Failure> {
        let mut spec = self.rolling(group, v1::RollingKind::Secret)?;
        if let Some(Kind::Rolling(rolling)) = &mut spec.kind {
            secret.clone_into(&mut rolling.secret);
        }
        spec.max_failures = self.max_failures;
        Ok(spec)
    }

    fn upkeep(&self, group: &str, hook: &str) -> Result<v1::WorkSpec, Failure> {
        let mut spec = self.rolling(group, v1::RollingKind::Run)?;
        if let Some(Kind::Rolling(rolling)) = &mut spec.kind {
            hook.clone_into(&mut rolling.hook);
        }
        spec.max_failures = self.max_failures;
        Ok(spec)
    }
}

fn undo_spec(group: &str, config: Option<String>, advance: &Advance) -> Result<v1::WorkSpec, Failure> {
    let rolling = v1::RollingSpec {
        group: group.to_owned(),
        kind: v1::RollingKind::Undo.into(),
        waves: advance.waves()?,
        on_failure: advance.on_failure().into(),
        config: config.unwrap_or_default(),
        backup_first: advance.backup_first,
        ..v1::RollingSpec::default()
    };
    Ok(v1::WorkSpec { kind: Some(Kind::Rolling(rolling)), max_failures: 0 })
}

async fn history(ctx: &Ctx, group: &str, config: &str, limit: Option<u32>) -> Outcome {
    let client = ctx.client()?;
    let consistency = ctx.global.consistency();
    let (releases, token) = pages(limit, |page_token, page_size| {
        let client = &client;
        async move {
            let (group, config) = (group.to_owned(), config.to_owned());
            let request = v1::ListReleasesRequest { group, page_size, page_token, consistency, config };
            let answer = call!(client, OperationServiceClient, list_releases, request)?;
            Ok((answer.releases, answer.next_page_token))
        }
    })
    .await?;
    let answer = v1::ListReleasesResponse { releases, next_page_token: token };
    let table = |_| render::operation::releases(&answer.releases);
    render::answer(ctx.global.output, &answer, "quorate.v1.ListReleasesResponse", Some("releases"), table)?;
    Ok(exit::DONE)
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: RolloutCommand) -> Outcome {
    match command {
        RolloutCommand::Plan { what, form, change } => {
            let (work, document) = what.spec()?;
            let request = v1::CreatePlanRequest { work: Some(work), options: Some(change.options()) };
            let answer = call!(ctx.client()?, OperationServiceClient, create_plan, request);
            let answer = match answer {
                Ok(answer) => answer,
                Err(failure) => return form.unchanged(placed(failure, document.as_ref())),
            };
            form.show(ctx, &answer.plan.unwrap_or_default())
        }
        RolloutCommand::Start { what, plan: Some(plan), form, change, waiting } => {
            let _ = what;
            form.check(&change)?;
            operation::start_plan(ctx, &plan, form, change, waiting).await
        }
        RolloutCommand::Start { what, plan: None, form, change, waiting } => {
            let (work, document) = what.spec()?;
            form.check(&change)?;
            let ended = operation::start_as(ctx, work, form, change, waiting, "rollout").await;
            ended.map_err(|failure| placed(failure, document.as_ref()))
        }
        RolloutCommand::List { page } => {
            operation::list(ctx, page.limit, v1::OperationKind::Unspecified).await
        }
        RolloutCommand::Show { id } => operation::show(ctx, id).await,
        RolloutCommand::Watch { id, timeout } => {
            let waiting = Waiting { wait: true, detach: false, timeout };
            operation::follow(ctx, &ctx.client()?, &id, &waiting).await
        }
        RolloutCommand::Promote { verb, all } => operation::promote(ctx, verb, all).await,
        RolloutCommand::Undo { group, config, advance, change, waiting } => {
            operation::start(ctx, undo_spec(&group, config, &advance)?, change, waiting, "rollout").await
        }
        RolloutCommand::History { group, config, page } => {
            history(ctx, &group, &config.unwrap_or_default(), page.limit).await
        }
        RolloutCommand::Pause(verb) => operation::pause(ctx, verb).await,
        RolloutCommand::Resume(verb) => operation::resume(ctx, verb).await,
        RolloutCommand::Abort(verb) => operation::cancel(ctx, verb).await,
    }
}

/// A field that the coordinators refuse, at its place in the file; every other failure as it is.
fn placed(failure: Failure, document: Option<&Document>) -> Failure {
    match document {
        Some(document) if failure.code == exit::USAGE => document.placed(failure),
        Some(_) | None => failure,
    }
}

#[cfg(test)]
mod tests;
