//! A renewed certificate, end to end: distributed, reloaded, and looked at where it is served.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quorate_common::tls::{Shown, looking_only};
use quorate_tests::cluster::{Fleet, Poll, loopback};
use quorate_tests::wait::wait_until;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};

use crate::restart::{LIMIT, steps};

const NAME: &str = "ledger.example";
const DAY: Duration = Duration::from_secs(86_400);

/// A certificate under this key, valid for so many days.
fn certificate(key: &KeyPair, days: u32) -> String {
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + DAY * days).into();
    params.self_signed(key).expect("signed").pem()
}

fn print_of(pem: &str) -> [u8; 32] {
    Shown::read_pem(pem.as_bytes()).expect("a certificate").fingerprint
}

/// The fingerprint of what is shown there now, seen from outside of the fleet.
fn shown_at(at: SocketAddr) -> Option<[u8; 32]> {
    let name = ServerName::try_from(NAME).expect("a name");
    let connection = ClientConnection::new(Arc::new(looking_only().expect("TLS")), name).expect("a client");
    let stream = TcpStream::connect_timeout(&at, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let mut tls = StreamOwned::new(connection, stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).ok()?;
    }
    let leaf = tls.conn.peer_certificates()?.first()?;
    Some(Shown::read(leaf).ok()?.fingerprint)
}

/// One instance that is served over TLS, too.
struct Served {
    node: String,
    at: SocketAddr,
    file: PathBuf,
    config: PathBuf,
    plain: String,
}

/// Gives each instance a TLS port, a key and the first certificate; it uses them from its next start on.
fn serve_over_tls(fleet: &Fleet, key: &KeyPair, first: &str) -> Vec<Served> {
    let free = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let held: Vec<TcpListener> = fleet.instances().iter().map(|_| free()).collect();
    let ports = held.iter().map(|port| port.local_addr().expect("an address").port());
    let each = fleet.instances().into_iter().zip(ports).map(|(instance, port)| {
        let services = fleet.dir().join("services").join("ledger");
        let etc = fleet.dir().join("apps").join("ledger").join(&instance.node).join("etc");
        let (file, key_file) = (etc.join("server.pem"), services.join(format!("{}-key.pem", instance.node)));
        let config = services.join(format!("{}.toml", instance.node));
        let plain = fs::read_to_string(&config).expect("its configuration");
        fs::write(&file, first).expect("the fleet's folder is ours");
        fs::write(&key_file, key.serialize_pem()).expect("the fleet's folder is ours");
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).expect("it is ours");
        let quoted = |path: &Path| path.display().to_string();
        let tls = format!(
            "\n[tls]\nport = {port}\ncertificate = {:?}\nkey = {:?}\n",
            quoted(&file),
            quoted(&key_file)
        );
        fs::write(&config, format!("{plain}{tls}")).expect("the fleet's folder is ours");
        Served { node: instance.node, at: loopback(port), file, config, plain }
    });
    each.collect()
}

fn apply(fleet: &Fleet, service: &Value) {
    let mut document = service.clone();
    document["kind"] = "Service".into();
    let path = fleet.dir().join("ledger-tls.json");
    fs::write(&path, document.to_string()).expect("the fleet's folder is ours");
    let _ = fleet.quorate(&["apply", "-f", &path.to_string_lossy(), "--yes"]).expect(0);
}

/// The sample with a certificate of which a gate asks whether it is served.
fn with_certificate(sample: &Value, served: &[Served]) -> Value {
    let mut service = sample.clone();
    let more = json!({ "name": "certificate", "path": "${app}/etc/server.pem", "apply": "RELOAD",
                       "unchecked": true,
                       "confirm": "60s" });
    service["configs"].as_array_mut().expect("it has one").push(more);
    let probe = json!({ "name": "served", "interval": "0.3s", "timeout": "1s", "passes": 2,
        "certificate": { "address": "127.0.0.1:${tls}", "serverName": NAME, "minRemaining": "86400s",
                         "file": "${app}/etc/server.pem" } });
    service["probes"].as_array_mut().expect("it has some").push(probe);
    for one in served {
        service["vars"][&one.node]["vars"]["tls"] = one.at.port().to_string().into();
    }
    service
}

fn renew(fleet: &Fleet, pem: &str, version: &str, more: &[&str]) -> quorate_tests::cluster::Answer {
    let path = fleet.dir().join(format!("renewed-{version}.pem"));
    fs::write(&path, pem).expect("the fleet's folder is ours");
    let artifact = fleet.json(&["artifact", "push", &path.to_string_lossy()]);
    let digest = artifact["digest"].as_str().expect("a digest").to_owned();
    let what = ["rollout", "start", "ledger", "--config", "certificate", "--release", version];
    let how = ["--artifact", &digest, "--on-failure", "rollback", "--wait", "--yes", "-o", "json"];
    fleet.quorate(&[&what[..], &how, more].concat())
}

pub(crate) fn a_renewed_certificate_is_really_served(fleet: &Fleet) {
    fleet.calm();
    let key = KeyPair::generate().expect("a key");
    let (first, second, third) = (certificate(&key, 10), certificate(&key, 90), certificate(&key, 91));
    let served = serve_over_tls(fleet, &key, &first);
    let sample = fleet.json(&["service", "show", "ledger"])["spec"].clone();
    apply(fleet, &with_certificate(&sample, &served));
    let on = fleet.ended(&fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]), LIMIT);
    assert_eq!(on["state"], "SUCCEEDED", "{on:#}");
    let all_show = |pem: &str| served.iter().all(|one| shown_at(one.at) == Some(print_of(pem)));
    wait_until("the first one to be shown", LIMIT, || all_show(&first));

    // Distributed, reloaded one after the other, and seen where it is served. Nobody is started again.
    let before = fleet.starts();
    let poll = Poll::begin(fleet.instances());
    let operation = renew(fleet, &second, "2027-02", &[]).expect(0).json();
    let tally = poll.end();
    assert_eq!(tally.fewest, Some(3), "a reload takes nobody away: {tally:?}");
    assert_eq!(steps(&operation, "CONFIRM").len(), served.len(), "{operation:#}");
    assert!(all_show(&second));
    assert_eq!(fleet.starts(), before);

    // Whoever does not reload shows the old one on: the gate says so, and the file goes back.
    for one in &served {
        let misbehave = fleet.instance(&one.node).dir.join("misbehave");
        fs::write(misbehave, "ignore_sighup = true\n").expect("the data directory is ours");
    }
    let operation = renew(fleet, &third, "2027-05", &["--gate-timeout", "8s"]).expect(1).json();
    assert_eq!(operation["state"], "ROLLED_BACK", "{operation:#}");
    let failed: Vec<&Value> =
        steps(&operation, "GATE").into_iter().filter(|step| step["state"] == "FAILED").collect();
    assert_eq!(failed.len(), 1, "{operation:#}");
    assert!(failed[0].to_string().contains("it was not reloaded"), "{:#}", failed[0]);
    assert!(served.iter().all(|one| fs::read_to_string(&one.file).is_ok_and(|now| now == second)));
    assert!(all_show(&second));
    assert_eq!(fleet.starts(), before);

    for one in &served {
        fs::remove_file(fleet.instance(&one.node).dir.join("misbehave")).expect("it was there");
        fs::write(&one.config, &one.plain).expect("the fleet's folder is ours");
    }
    apply(fleet, &sample);
    let off = fleet.ended(&fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]), LIMIT);
    assert_eq!(off["state"], "SUCCEEDED", "{off:#}");
    fleet.calm();
}
