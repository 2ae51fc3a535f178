//! B-20: the command line in hostile hands and places.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::ffi::OsStringExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate_tests::cluster::{CALM, Fleet};
use quorate_tests::wait::wait_for;
use quorate_tests::workspace;
use rustix::process::{Pid, Signal, kill_process};

const LIMIT: Duration = Duration::from_secs(120);

fn command(fleet: &Fleet, args: &[&str]) -> Command {
    // As from a terminal. A shell without job control has its background jobs ignore Ctrl-C, and so do their children.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(workspace::binaries().join("quorate"));
    command.env("QUORATE_CONFIG", fleet.dir().join("config.toml")).env("NO_COLOR", "1").args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn b20_arguments_and_streams(fleet: &Fleet) {
    let long = "a".repeat(100_000);
    for args in [
        &["node", "list", "--bogus"][..],
        &["--", "node", "list", "extra"],
        &["node", "show", "--", "--help"],
        &["node", "show", "-rf"],
        &["node", "show", "a\nb"],
        &["node", "show", "\u{1b}[2Jx"],
        &["node", "show", "../node1"],
        &["node", "show", &long],
        &["node", "cordon", "node1", "--request-id", "a b"],
        &["node", "cordon", "node1", "--reason", "a\u{1b}[2Jb"],
        &["node", "list", "-o", "xml"],
        &["node", "list", "--limit", "-1"],
        &["node", "list", "-l", "role=("],
        &["rollout", "start", "--restart", "ledger", "--timeout", "soon", "--yes"],
        &["--addr", "not an address", "node", "list"],
        &["--addr", "", "node", "list"],
    ] {
        let shown: Vec<String> = args.iter().map(|arg| arg.chars().take(40).collect()).collect();
        let answer = fleet.quorate(args);
        assert_eq!(answer.code, 2, "{shown:?}: {answer:?}");
        assert_eq!(answer.stdout, "", "{shown:?}: stdout is for answers");
        assert!(!answer.stderr.contains(['\u{1b}', '\0']), "{shown:?}: {:?}", answer.stderr);
        assert!(answer.stderr.len() < 8_192, "{shown:?}: {} bytes of error", answer.stderr.len());
    }
    // Not UTF-8.
    let bytes = std::ffi::OsString::from_vec(vec![0xff, 0xfe]);
    let output = command(fleet, &["node", "show"]).arg(bytes).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");

    // Nobody reads: it ends quietly. Nowhere to write: it says so.
    for what in ["list", "list -o json"] {
        let args: Vec<&str> = ["node"].into_iter().chain(what.split(' ')).collect();
        let mut child = command(fleet, &args).spawn().expect("it runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{said}");
        assert!(output.status.code().is_some_and(|code| code < 100), "{output:?}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let output = command(fleet, &["node", "list"]).stdout(full).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && !said.contains("panicked"), "{output:?}");
}

pub(crate) fn b20_two_at_once(fleet: &Fleet) {
    fleet.calm();
    let start = |id: &str| {
        let args = [
            "rollout",
            "start",
            "--restart",
            "ledger",
            "--yes",
            "--detach",
            "-o",
            "json",
            "--request-id",
            id,
        ];
        command(fleet, &args).spawn().expect("it runs")
    };
    let end = |child: Child| {
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = serde_json::from_str::<serde_json::Value>(&text).map(|v| v["name"].to_string());
        (output.status.code(), name.ok(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (one, two, three) = (start("both:1"), start("both:1"), start("both:2"));
    let (one, two, three) = (end(one), end(two), end(three));
    assert_eq!((one.0, &one.1), (Some(0), &two.1), "the same request is one operation: {one:?} {two:?}");
    assert!(one.1.is_some() && three.1 != one.1, "{three:?}");
    assert!(matches!(three.0, Some(0 | 3)), "{three:?}");
    for name in [one.1, three.1].into_iter().flatten() {
        let id = name.trim_matches('"').trim_start_matches("operations/").to_owned();
        let operation = fleet.ended(&id, LIMIT);
        assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    }
}

/// Ctrl-C.
fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::INT).expect("it runs");
}

/// Waits for the end; the code and what it said.
fn ended(mut child: Child) -> (Option<i32>, String) {
    let code = wait_for("the command line to end", CALM, || match child.try_wait() {
        Ok(Some(status)) => Ok(status.code()),
        Ok(None) => Err("it goes on".to_owned()),
        Err(error) => Err(error.to_string()),
    });
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).expect("text");
    }
    (code, said)
}

pub(crate) fn b20_ctrl_c_detaches(fleet: &Fleet) {
    fleet.calm();
    let waiting = command(fleet, &["rollout", "start", "--restart", "ledger", "--wait", "--yes"]).spawn();
    let waiting = waiting.expect("it runs");
    let id = wait_for("the operation to be there", CALM, || {
        let list = fleet.json(&["operation", "list"]);
        let rows = list["operations"].as_array().cloned().unwrap_or_default();
        let running = rows.iter().find(|row| {
            !["SUCCEEDED", "FAILED", "CANCELED", "ROLLED_BACK"]
                .contains(&row["state"].as_str().unwrap_or_default())
        });
        running
            .and_then(|row| {
                row["name"].as_str().map(|name| name.trim_start_matches("operations/").to_owned())
            })
            .ok_or_else(|| list.to_string())
    });
    interrupt(&waiting);
    let (code, said) = ended(waiting);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains(&id), "it names the operation: {said}");
    assert!(
        said.contains("watch") && said.contains("cancel") || said.contains("abort"),
        "how to come back and to stop: {said}"
    );
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "SUCCEEDED", "it went on: {operation:#}");

    // While it still tries to reach anybody: nothing was asked for, nothing goes on.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let trying =
        command(fleet, &["--addr", &address, "node", "cordon", "node1", "--yes"]).spawn().expect("it runs");
    let _taken = silent.accept().expect("it connects");
    interrupt(&trying);
    let (code, said) = ended(trying);
    assert!(code == Some(130) || code.is_none(), "{code:?} {said}");
    assert_eq!(fleet.json(&["node", "show", "node1"])["scheduling"], "ELIGIBLE");
}
