//! Counts the connections to an address in what the kernel tells (`/proc/net/tcp`, `/proc/net/tcp6`). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// States of a connection that may still carry a request: established, being opened, closed by the other end alone.
const ALIVE: [&str; 3] = ["01", "02", "08"];

/// Connections from here to there.
pub(super) fn connections_to(table: &str, to: SocketAddr) -> u64 {
    let alive = table.lines().skip(1).filter(|line| {
        let mut words = line.split_whitespace().skip(2);
        let (Some(remote), Some(state)) = (words.next(), words.next()) else { return false };
        ALIVE.contains(&state) && address(remote) == Some(to)
    });
    u64::try_from(alive.count()).unwrap_or(u64::MAX)
}

/// `0100007F:1F90`: words of the address in the machine's own order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at..at.checked_add(8)?)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0_u8; 16];
            for (index, chunk) in bytes.chunks_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index.checked_mul(8)?)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}
