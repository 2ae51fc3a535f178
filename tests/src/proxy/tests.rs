use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use super::*;

/// An echo behind a proxy, and a connection through it.
struct Bench {
    runtime: tokio::runtime::Runtime,
    network: Network,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let network = Network::open(runtime.handle(), &["coord1".into()]).expect("ports");
        let echo = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        network.lead("coord1", echo.local_addr().expect("bound"));
        std::thread::spawn(move || {
            for stream in echo.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut copy = stream.try_clone().expect("a copy");
                    std::io::copy(&mut &stream, &mut copy)
                });
            }
        });
        Self { runtime, network }
    }

    fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.network.address("coord1")).expect("a proxy listens");
        stream.set_read_timeout(Some(Duration::from_millis(300))).expect("settable");
        stream
    }

    fn troubled(&self, trouble: Trouble) {
        self.network.set(vec![Rule { from: From::Anyone, to: Some("coord1".into()), trouble }]);
    }
}

fn echoes(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    let mut got = 0;
    while got < back.len() {
        match stream.read(&mut back[got..])? {
            0 => break,
            n => got += n,
        }
    }
    back.truncate(got);
    Ok(back)
}

#[test]
fn fair_weather_changes_nothing() {
    let bench = Bench::new();
    let text: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut stream = bench.dial();
    let mut sender = stream.try_clone().expect("a copy");
    let sent = text.clone();
    let writer = std::thread::spawn(move || sender.write_all(&sent));
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).expect("all of it comes back");
    writer.join().expect("no panic").expect("written");
    assert!(back == text);
    let counted = || bench.network.counts().bytes.load(Ordering::Relaxed);
    crate::wait::wait_until("all bytes to be counted", Duration::from_secs(5), || counted() >= 400_000);
}

#[test]
fn a_stalled_connection_stays_and_goes_on() {
    let bench = Bench::new();
    let mut stream = bench.dial();
    assert_eq!(echoes(&mut stream, b"before").expect("fair"), b"before");
    bench.troubled(Trouble::Stall);
    let silent = echoes(&mut stream, b"held").expect_err("nothing comes").kind();
    assert!(matches!(silent, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{silent:?}");
    bench.network.set(Vec::new());
    let mut back = [0; 4];
    stream.read_exact(&mut back).expect("it comes late");
    assert_eq!(&back, b"held");
}

#[test]
fn cut_reset_and_torn_break_connections() {
    let bench = Bench::new();
    let mut stream = bench.dial();
    assert_eq!(echoes(&mut stream, b"before").expect("fair"), b"before");
    bench.troubled(Trouble::Reset);
    assert!(matches!(echoes(&mut stream, b"x").map(|back| back.len()), Err(_) | Ok(0)));
    // A reset is over at once for new ones; a cut is not.
    let mut stream = bench.dial();
    assert_eq!(echoes(&mut stream, b"again").expect("new"), b"again");
    bench.troubled(Trouble::Torn);
    let mut torn = bench.dial();
    assert_eq!(echoes(&mut torn, b"whole").expect("opened after it"), b"whole");
    let half = echoes(&mut stream, b"01234567");
    assert!(half.as_ref().map_or(true, |back| back.len() < 8), "{half:?}");
    bench.troubled(Trouble::Cut);
    assert!(matches!(echoes(&mut bench.dial(), b"x").map(|back| back.len()), Err(_) | Ok(0)));
    assert!(bench.network.counts().broken.load(Ordering::Relaxed) >= 3);
    bench.network.set(Vec::new());
    assert_eq!(echoes(&mut bench.dial(), b"fair").expect("fair again"), b"fair");
    drop(bench.runtime);
}

#[test]
fn slow_and_late_bytes_come() {
    let bench = Bench::new();
    let mut stream = bench.dial();
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("settable");
    bench.troubled(Trouble::Slow(200));
    let begun = Instant::now();
    assert_eq!(echoes(&mut stream, &[7; 60]).expect("slow"), [7; 60]);
    assert!(begun.elapsed() >= Duration::from_millis(280), "60 bytes at 200 a second");
    bench.troubled(Trouble::Delay(Duration::from_millis(120)));
    let begun = Instant::now();
    assert_eq!(echoes(&mut stream, b"late").expect("late"), b"late");
    assert!(begun.elapsed() >= Duration::from_millis(240), "120 ms each way");
}

#[test]
fn rules_are_for_whom_they_name() {
    let rule = |from| Rule { from, to: Some("coord1".into()), trouble: Trouble::Cut };
    let (member, agent) = (Caller::Coordinator("coord2".into()), Caller::Agent("node1".into()));
    for (from, concerned) in [
        (From::Anyone, [true, true, true]),
        (From::Coordinators, [true, false, false]),
        (From::Agents, [false, true, false]),
        (From::One("coord2".into()), [true, false, false]),
        (From::One("node1".into()), [false, true, false]),
    ] {
        let rule = rule(from);
        let found = [&member, &agent, &Caller::Other].map(|who| rule.concerns(who, "coord1"));
        assert_eq!(found, concerned, "{rule:?}");
        assert!(!rule.concerns(&member, "coord3"));
    }
    assert!(Rule { from: From::Anyone, to: None, trouble: Trouble::Cut }.concerns(&agent, "coord3"));
}
