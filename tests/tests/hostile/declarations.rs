//! Declarations and plans that make no sense, or name what nobody may touch (B-6, B-7, B-16): refused before anything is
//! stored.

use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_tests::cluster::Fleet;
use tonic::Code;
use tonic::transport::Channel;

use crate::messages::as_admin;
use crate::peers::{block_on, refused};

pub(crate) fn service() -> v1::ServiceSpec {
    v1::ServiceSpec {
        name: "hostile".into(),
        driver: Some(v1::Driver { kind: Some(v1::driver::Kind::SystemdUnit("hostile.service".into())) }),
        nodes: Some(v1::Selector { names: vec!["node4".into()], ..Default::default() }),
        ..Default::default()
    }
}

/// Applies a changed service, which must be refused.
async fn apply(channel: &Channel, what: &str, change: impl FnOnce(&mut v1::ServiceSpec), named: &str) {
    let mut spec = service();
    change(&mut spec);
    let request = v1::ApplyServiceRequest { spec: Some(spec), options: None };
    let answer = GroupServiceClient::new(channel.clone()).apply_service(request).await;
    refused(what, answer, Code::InvalidArgument, "INVALID_ARGUMENT", named);
}

pub(crate) fn b6_unit_names(fleet: &Fleet) {
    let channel = as_admin(fleet);
    let long = format!("{}.service", "a".repeat(250));
    block_on(async {
        for unit in [
            "-.mount",
            "--help",
            "../x.service",
            "a b.service",
            "x.service;reboot",
            "$(id).service",
            "x.service\n",
            &long,
            "x@.service",
            "@x.service",
            ".service",
            "a/b.service",
            "x\0.service",
            "é.service",
            "x",
            "-x.service",
            "dbus.service",
            "quorate-agent.service",
            "quorate-helper.service",
            "quorate-coordinator.service",
        ] {
            let driver = v1::Driver { kind: Some(v1::driver::Kind::SystemdUnit(unit.into())) };
            apply(&channel, unit, |spec| spec.driver = Some(driver), "driver").await;
        }
        for name in ["../x", "a b", "", "x;reboot", "$(id)"] {
            let driver = v1::Driver { kind: Some(v1::driver::Kind::Process(name.into())) };
            apply(&channel, name, |spec| spec.driver = Some(driver), "driver").await;
        }
    });
}

pub(crate) fn b7_paths(fleet: &Fleet) {
    let channel = as_admin(fleet);
    let (name, path) = (format!("/{}", "a".repeat(256)), "/a".repeat(2_049));
    block_on(async {
        for bad in [
            "",
            "relative",
            "/srv/../etc",
            "/srv/./x",
            "//srv",
            "/srv//x",
            "/srv/.",
            "/srv/..",
            "/a\nb",
            "/a\0b",
            "/\u{1b}[2J",
            &name,
            &path,
            "~/x",
            "$HOME/x",
        ] {
            let policy = v1::BackupPolicy { paths: vec![bad.into()], ..Default::default() };
            apply(&channel, bad, |spec| spec.backup = Some(policy), "backup").await;
            let policy = v1::LogRotation { paths: vec![bad.into()], keep: 3, ..Default::default() };
            apply(&channel, bad, |spec| spec.log_rotation = Some(policy), "log_rotation").await;
        }
    });
}

pub(crate) fn b16_contradictions(fleet: &Fleet) {
    let channel = as_admin(fleet);
    block_on(async {
        let group = |change: &dyn Fn(&mut v1::GroupSpec)| {
            let mut spec = v1::GroupSpec {
                name: "hostile".into(),
                service: "ledger".into(),
                voters: vec!["node1".into(), "node2".into(), "node3".into()],
                policy: Some(v1::QuorumPolicy {
                    kind: v1::QuorumPolicyKind::Majority as i32,
                    ..Default::default()
                }),
                ..Default::default()
            };
            change(&mut spec);
            v1::ApplyGroupRequest { spec: Some(spec), ..Default::default() }
        };
        let fixed = |count| {
            Some(v1::QuorumPolicy {
                kind: v1::QuorumPolicyKind::MinAvailable as i32,
                count,
                ..Default::default()
            })
        };
        let percent = |percent| {
            Some(v1::QuorumPolicy {
                kind: v1::QuorumPolicyKind::MinAvailable as i32,
                percent,
                ..Default::default()
            })
        };
        let mut groups = GroupServiceClient::new(channel.clone());
        let cases: [(&str, v1::ApplyGroupRequest, &str); 8] = [
            ("no voters", group(&|g| g.voters.clear()), "voters"),
            ("a voter twice", group(&|g| g.voters[1] = "node1".into()), "voters[1]"),
            ("voter and learner", group(&|g| g.learners = vec!["node1".into()]), "node1"),
            ("quorum 4 of 3", group(&|g| g.policy = fixed(4)), "3"),
            ("quorum 0", group(&|g| g.policy = fixed(0)), "policy"),
            ("200 %", group(&|g| g.policy = percent(200)), "policy"),
            ("no policy", group(&|g| g.policy = None), "policy"),
            (
                "100,000 voters",
                group(&|g| g.voters = (0..100_000).map(|n| format!("n{n}")).collect()),
                "500 is the limit",
            ),
        ];
        for (what, request, named) in cases {
            let answer = groups.apply_group(request).await;
            refused(what, answer, Code::InvalidArgument, "INVALID_ARGUMENT", named);
        }
    });
    let _ = fleet.quorate(&["group", "show", "hostile"]).expect(6);
}

pub(crate) fn b16_absurd_plans(fleet: &Fleet) {
    let channel = as_admin(fleet);
    block_on(async {
        let mut operations = OperationServiceClient::new(channel.clone());
        let plan = |group: &str, max_unavailable, names: &[&str]| {
            let selector = (!names.is_empty()).then(|| v1::Selector {
                names: names.iter().map(|n| (*n).to_owned()).collect(),
                ..Default::default()
            });
            let rolling =
                v1::RollingSpec { group: group.into(), max_unavailable, selector, ..Default::default() };
            let work = v1::WorkSpec { kind: Some(v1::work_spec::Kind::Rolling(rolling)), max_failures: 0 };
            v1::CreatePlanRequest { work: Some(work), ..Default::default() }
        };
        for (what, request, code, named) in [
            ("no such group", plan("nobody", 1, &[]), Code::NotFound, "nobody"),
            (
                "no such node",
                plan("ledger", 1, &["node77"]),
                Code::InvalidArgument,
                "bad_field:work.rolling.selector",
            ),
            ("all at once", plan("ledger", 3, &[]), Code::InvalidArgument, "has 3 members"),
            ("2^32 - 1 at once", plan("ledger", u32::MAX, &[]), Code::InvalidArgument, "max_unavailable"),
        ] {
            let status = operations.create_plan(request).await.map(|_| "a plan").expect_err(what);
            let problem = quorate_common::wire::Problem::from_status(&status);
            println!("  {what}: {:?} {} {}", status.code(), problem.reason, problem.what);
            assert!(status.code() == code || status.code() == Code::FailedPrecondition, "{what}: {status:?}");
            assert!(format!("{} {:?}", problem.what, problem.why).contains(named), "{what}: {problem:?}");
        }
        // A wish beyond what the quorum can bear is narrowed to it, and the plan shows that: no wave takes two.
        let wide = operations.create_plan(plan("ledger", 2, &[])).await.expect("a plan").into_inner();
        for wave in wide.plan.expect("a plan").waves {
            let nodes: std::collections::BTreeSet<_> =
                wave.steps.into_iter().map(|step| step.node).filter(|node| !node.is_empty()).collect();
            assert_eq!(nodes.len(), 1, "{nodes:?}");
        }
    });
}
