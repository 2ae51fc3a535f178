//! The certificate probe: what a TLS server really shows, and whether it is what it should be.
//!
//! A renewed certificate in a file says nothing; the one that clients are shown does. Who issued it is not judged: the
//! handshake takes any chain, because nothing is sent over it.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use quorate_common::tls::{Shown, hex, looking_only};
use quorate_common::with_causes;
use quorate_model::probe::CertificateProbe;
use quorate_model::{DurationMs, Millionths, Timestamp};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Reading;

/// Largest certificate file: a long chain has 10 KiB; this only stops a wrong path.
const FILE_MAX_BYTES: u64 = 64 * 1024;
const DAY_MS: u64 = 86_400_000;
/// Names of a certificate that a detail tells.
const NAMES_SHOWN: usize = 3;

/// The name that is asked for.
pub(super) fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is no host name and no address"))
}

/// The bytes of a certificate file; off the runtime's threads, because a disk may hang.
pub(super) async fn file(path: String) -> Result<Vec<u8>, String> {
    let read = move || {
        // Without waiting: a pipe in its place must not hold the probe.
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
        let cannot = |e: std::io::Error| format!("{path} cannot be read: {e}");
        let file = std::fs::File::options().read(true).custom_flags(flags).open(&path).map_err(cannot)?;
        if !file.metadata().map_err(cannot)?.is_file() {
            return Err(format!("{path} is no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > FILE_MAX_BYTES {
            return Err(format!("{path} is larger than {FILE_MAX_BYTES} bytes"));
        }
        Ok(bytes)
    };
    tokio::task::spawn_blocking(read).await.map_err(|_| "the file was not read to its end".to_owned())?
}

/// The leaf that a server shows to whoever asks for this name.
pub(super) async fn shown(stream: TcpStream, name: ServerName<'static>) -> Result<Shown, String> {
    let config = looking_only().map_err(|e| with_causes(&e))?;
    let connector = TlsConnector::from(Arc::new(config));
    let tls = connector.connect(name, stream).await.map_err(|e| format!("no TLS: {}", with_causes(&e)))?;
    let (_, connection) = tls.get_ref();
    let leaf = connection.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or_else(|| "the server shows no certificate".to_owned())?;
    Shown::read(leaf).map_err(|why| format!("its certificate cannot be read: {why}"))
}

/// Judges what is shown. `file` are the bytes of the file that it should come from. Pure.
pub(super) fn judge(
    wanted: &CertificateProbe,
    name: &ServerName<'_>,
    shown: &Shown,
    file: Option<&[u8]>,
    now: Timestamp,
) -> Reading {
    let CertificateProbe { address: _, server_name, min_remaining, file: path } = wanted;
    let left = shown.not_after.since(now);
    let until = shown.not_after.utc();
    let print = hex(&shown.fingerprint);
    let stored = file.map(Shown::read_pem);
    let wrong = if now < shown.not_before {
        Some(format!("valid only from {}", shown.not_before.utc()))
    } else if now > shown.not_after {
        Some(format!("expired {until}"))
    } else if !shown.is_for(name) {
        let names: Vec<&str> = shown.names.iter().take(NAMES_SHOWN).map(String::as_str).collect();
        Some(format!("not for {server_name}, but for {}", names.join(" ")))
    } else {
        match stored {
            Some(Err(_)) => Some(format!("{path} holds no certificate")),
            Some(Ok(stored)) if stored.fingerprint != shown.fingerprint => {
                Some(format!("{path} holds another one: it was not reloaded"))
            }
            // Last: what is in the file already is what should be shown, however long it lasts.
            Some(Ok(_)) | None if left < *min_remaining => {
                Some(format!("valid until {until}, less than {min_remaining}"))
            }
            Some(Ok(_)) | None => None,
        }
    };
    let ok = wrong.is_none();
    let text = wrong.unwrap_or_else(|| format!("valid until {until}, {}", shown.subject));
    let mut reading = Reading::new(ok, &format!("sha256 {print} {text}"));
    reading.value = print;
    reading.number = Some(days(left));
    reading
}

/// Days, to the millionth; none left is none.
fn days(left: DurationMs) -> Millionths {
    let millionths = u128::from(left.0) * 1_000_000 / u128::from(DAY_MS);
    Millionths(i64::try_from(millionths).unwrap_or(i64::MAX))
}
