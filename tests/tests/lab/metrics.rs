//! Debian's Prometheus with the configuration and the rules that we ship.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use quorate_tests::lab::{COORDINATORS, LabFleet};
use quorate_tests::wait::wait_for;
use quorate_tests::workspace;
use serde_json::Value;

/// Two scrapes at the shipped interval of 15 s, and some.
const LIMIT: Duration = Duration::from_secs(90);

/// Ended on drop.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) fn a_real_prometheus_scrapes(fleet: &LabFleet) {
    let desk = fleet.host("coord1");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ca = dir.path().join("quorate-ca.pem");
    fs::copy(desk.path("/root/.config/quorate/ca.pem"), &ca).expect("the administrator's CA");
    let shipped = workspace::root().join("deploy/prometheus");
    let text = fs::read_to_string(shipped.join("prometheus.yml")).expect("the configuration");
    // The one place that only the administrator knows.
    let text = text.replace("/etc/prometheus/quorate-ca.pem", &ca.to_string_lossy());
    fs::write(dir.path().join("prometheus.yml"), text).expect("written");
    fs::copy(shipped.join("quorate.rules.yml"), dir.path().join("quorate.rules.yml")).expect("the rules");
    let log = fs::File::create(dir.path().join("log")).expect("a log");
    let mut command = desk.beside("prometheus").expect("coord1 is on");
    command
        .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg("--web.listen-address=127.0.0.1:9090")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let _prometheus = Prometheus(command.spawn().expect("prometheus (package `prometheus`)"));
    let ask = |path: &str| -> Result<Value, String> {
        let answer = desk.run(&format!("curl -fsS 'http://127.0.0.1:9090/api/v1/{path}'"));
        if answer.code == 0 { Ok(answer.json()["data"].clone()) } else { Err(answer.stderr) }
    };
    let up = wait_for("every coordinator to be scraped", LIMIT, || {
        let found = ask("query?query=up%7Bjob%3D%22quorate-coordinator%22%7D%3D%3D1")?;
        let rows = found["result"].as_array().map_or(0, Vec::len);
        if rows == COORDINATORS.len() {
            Ok(rows)
        } else {
            Err(format!("{found}\n{}", ask("targets").unwrap_or_default()))
        }
    });
    let series =
        ask("query?query=count(%7B__name__%3D~%22quorate_coordinator_.%2B%22%7D)").expect("an answer");
    let rules = wait_for("every rule to be evaluated", LIMIT, || {
        let rules = ask("rules")?;
        let groups = rules["groups"].as_array().cloned().unwrap_or_default();
        let rows: Vec<&Value> =
            groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
        let good = rows.iter().filter(|rule| rule["health"] == "ok").count();
        if good == rows.len() && good > 0 { Ok(good) } else { Err(rules.to_string()) }
    });
    println!(
        "  {up} coordinators up, {} series of theirs, {rules} rules evaluated without an error",
        series["result"][0]["value"][1]
    );
}
