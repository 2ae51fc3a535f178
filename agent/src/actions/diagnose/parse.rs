//! The few texts of `/proc` that a diagnosis reads. Pure; a text of another form gives `None`.

/// A value of `/proc/meminfo`, in bytes.
pub(super) fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A value of `/proc/vmstat`.
pub(super) fn vmstat(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim().parse().ok()
}

/// A decimal number in hundredths: `1.5` is 150.
pub(super) fn hundredths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part: u64 = format!("{:0<2}", part.get(..2).unwrap_or(part)).parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(part)
}

/// The three load averages in hundredths.
pub(super) fn loadavg(text: &str) -> Option<[u64; 3]> {
    let mut words = text.split_ascii_whitespace();
    Some([hundredths(words.next()?)?, hundredths(words.next()?)?, hundredths(words.next()?)?])
}

/// `avg60` of a line (`some`, `full`) of `/proc/pressure/*`, in hundredths of a percent.
pub(super) fn pressure(text: &str, line: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.split(' ').next() == Some(line))?;
    hundredths(line.split(' ').find_map(|word| word.strip_prefix("avg60="))?)
}

/// Listening ports of `/proc/net/tcp` or `tcp6`; at most `max`.
pub(super) fn listening(text: &str, max: usize) -> Vec<u16> {
    let port = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, _remote, state) = (words.next()?, words.next()?, words.next()?);
        // 0A is TCP_LISTEN.
        let (_, port) = (state == "0A").then(|| local.rsplit_once(':'))??;
        u16::from_str_radix(port, 16).ok()
    };
    text.lines().skip(1).filter_map(port).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel_are_read_and_others_are_not() {
        assert_eq!(meminfo("MemTotal:   16 kB\nMemAvailable: 2 kB\n", "MemAvailable"), Some(2048));
        assert_eq!(meminfo("MemTotal: x kB", "MemTotal"), None);
        assert_eq!(vmstat("oom_kill_x 9\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(loadavg("0.50 12.34 1.0 1/100 5"), Some([50, 1234, 100]));
        assert_eq!(loadavg("0.50"), None);
        let text =
            "some avg10=0.00 avg60=1.50 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.25 avg300=0 total=0\n";
        assert_eq!((pressure(text, "some"), pressure(text, "full")), (Some(150), Some(25)));
        let text = "  sl  local_address rem_address st\n 0: 0100007F:1D13 00000000:0000 0A x\n 1: 0100007F:0016 0:0 01 x\n";
        assert_eq!(listening(text, 10), [7443]);
        for bad in ["", "\u{0}", "é.é", "-1", "1.x"] {
            assert_eq!(hundredths(bad), None, "{bad:?}");
        }
    }
}
