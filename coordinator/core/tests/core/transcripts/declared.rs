//! What is declared: services, and when nothing or something may begin.

use super::*;

impl Run {
    pub(super) fn service(&mut self, name: &str, options: &[&str]) {
        let mut declared = spec(name);
        if options.contains(&"measured") {
            let [errors, _] = measured();
            declared.probes.push(errors);
        }
        if options.contains(&"watched") {
            declared.probes.push(quiet());
        }
        let pausing = options.contains(&"pausing");
        if pausing || options.contains(&"copied") {
            let hook = |name| pausing.then(|| HookName::new(name).unwrap());
            declared.backup = Some(BackupPolicy {
                paths: vec!["/var/lib/${service}".into()],
                exclude: vec![],
                pause: hook("pause"),
                resume: hook("resume"),
                pause_limit: DurationMs::from_secs(60),
                level: 3,
            });
        }
        if options.contains(&"checked") {
            declared.preflight = Some(PreflightSpec::default());
        }
        if options.contains(&"installed") {
            let (dir, file) = ("/opt/${service}".into(), name.to_string());
            declared.install = Some(Install::Binary { dir, file });
        }
        if options.contains(&"configured") {
            declared.configs.push(ConfigSpec {
                name: ConfigName::new("settings").unwrap(),
                path: "/etc/${service}/${node}.toml".into(),
                mode: 0,
                check: Some(HookName::new("check").unwrap()),
                apply: ConfigApply::Restart,
                confirm: DurationMs::from_secs(300),
                sensitive: false,
            });
        }
        if options.contains(&"secret") {
            declared.secrets.push(token());
        }
        crate::hooks::declare(&mut declared, options);
        if options.contains(&"told") {
            let file = "/run/${service}/maintenance".into();
            let lease = options.contains(&"brief").then(|| DurationMs::from_secs(4));
            declared.maintenance = Some(MaintenanceSpec { file, silence: None, lease });
        }
        if options.contains(&"silenced") {
            let matchers = ["service=${service}", "instance=~\"${node}:.*\""];
            let matchers = matchers.map(|text| AlertMatcher::parse(text).unwrap()).to_vec();
            let silence = SilenceSpec { url: "http://10.0.0.9:9093".into(), matchers, required: true };
            let (file, silence) = (String::new(), Some(silence));
            declared.maintenance = Some(MaintenanceSpec { file, silence, lease: None });
        }
        if options.contains(&"balanced") {
            declared.traffic = Some(TrafficSpec {
                adapter: BalancerName::new("edge").unwrap(),
                backend: "app".into(),
                server: "${node}".into(),
                drain_timeout: DurationMs::from_secs(60),
                on_timeout: OnTimeout::Fail,
                min_up: 2,
            });
        }
        self.fleet.world.declare(declared);
        self.fleet.bring_up(name);
        self.fleet.world.hush();
    }

    pub(super) fn freeze(&mut self, name: &str, options: &[&str]) {
        let option = |name: &str| options.iter().find_map(|word| word.strip_prefix(name));
        let now = self.fleet.world.now;
        let spec = FreezeSpec {
            name: FreezeName::new(name).unwrap(),
            selector: option("node=").map(Selector::node),
            services: option("service=").map(|s| WorkloadName::new(s).unwrap()).into_iter().collect(),
            reason: "the books are closed".into(),
            starts: option("from=").map(|span| now.plus(seconds(span))),
            ends: option("until=").map(|span| now.plus(seconds(span))),
        };
        let command = CalendarCommand::ApplyFreeze { spec, expect: None };
        let answer = self.fleet.world.user(Command::Calendar(Box::new(command)));
        self.refused(&answer);
    }

    pub(super) fn lift(&mut self, verb: &str, name: &str) {
        let command = if verb == "thaw" {
            CalendarCommand::DeleteFreeze { name: FreezeName::new(name).unwrap(), expect: None }
        } else {
            CalendarCommand::DeleteWindow { name: WindowName::new(name).unwrap(), expect: None }
        };
        let answer = self.fleet.world.user(Command::Calendar(Box::new(command)));
        self.refused(&answer);
    }

    pub(super) fn window(&mut self, name: &str, options: &[&str]) {
        let option = |name: &str| options.iter().find_map(|word| word.strip_prefix(name));
        let list = |name: &str| option(name).map(|text| text.split(',').map(seconds).collect::<Vec<_>>());
        let now = self.fleet.world.now;
        let duration = option("for=").map_or(DurationMs::from_secs(60), seconds);
        let name = WindowName::new(name).unwrap();
        let spec = WindowSpec {
            name: name.clone(),
            selector: option("node=").map(Selector::node),
            services: option("service=").map(|s| WorkloadName::new(s).unwrap()).into_iter().collect(),
            zone: ZoneName::new("UTC").unwrap(),
            when: Recurrence::Cron { expr: "0 22 * * *".into() },
            duration,
            owner: String::new(),
            announce: list("announce=").unwrap_or_default(),
            reason: "agreed with the exchange".into(),
        };
        let command = CalendarCommand::ApplyWindow { spec, expect: None };
        let answer = self.fleet.world.user(Command::Calendar(Box::new(command)));
        self.refused(&answer);
        let Some(opens) = list("opens=") else { return };
        let opening = |after: DurationMs| {
            let start = now.plus(after);
            Occurrence { start, end: start.plus(duration) }
        };
        let command = CalendarCommand::SetOpenings {
            revision: self.fleet.world.state.windows[&name].revision,
            name,
            until: now.plus(DurationMs::from_secs(60 * 86_400)),
            openings: opens.into_iter().map(opening).collect(),
        };
        let answer = self.fleet.world.system(Command::Calendar(Box::new(command)));
        self.refused(&answer);
    }

    pub(super) fn label(&mut self, name: &str, zone: &str) {
        let labels = std::collections::BTreeMap::from([("zone".to_string(), zone.to_string())]);
        let command = NodeCommand::SetLabels { node: node(name), labels };
        let answer = self.fleet.world.user(Command::Node(command));
        self.refused(&answer);
        self.fleet.world.hush();
    }

    /// How long the plan of a rolling restart would take.
    pub(super) fn estimate(&mut self, name: &str) {
        let request =
            PlanRequest::new(Goal::Rollout { group: group(name), change: Change::Restart }, admin());
        let world = &mut self.fleet.world;
        let made = plan(&world.state, &world.obs, &request, world.now, &mut || 7).unwrap();
        let told = made.estimate.unwrap();
        let typical = told.typical.map_or_else(|| "?".to_string(), |span| span.to_string());
        world.say(format!("  about {typical}, at most {}: {}", told.at_most, told.basis));
    }

    pub(super) fn schedule(&mut self, name: &str, options: &[&str]) {
        let answer = crate::schedules::declare(&mut self.fleet, name, options);
        self.refused(&answer);
    }

    pub(super) fn due(&mut self, name: &str, ago: &str, id: &str) {
        let answer = crate::schedules::due(&mut self.fleet, name, ago, id);
        self.refused(&answer);
    }
}

/// A secret with a grace of half a minute.
fn token() -> SecretSpec {
    SecretSpec {
        name: SecretName::new("token").unwrap(),
        file: "/etc/${service}/token".into(),
        previous: "/etc/${service}/token.previous".into(),
        source: SecretSource::Candidate("/etc/${service}/token.next".into()),
        confirm: HookName::new("token-works").unwrap(),
        apply: ConfigApply::Restart,
        grace: DurationMs::from_secs(30),
    }
}
