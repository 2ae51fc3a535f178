//! What somebody may have meant who wrote a zone that does not exist.

/// Most names that are offered.
const OFFERED: usize = 3;
/// Most letters that may differ.
const APART_MAX: usize = 3;

/// One line that offers the nearest names.
pub(super) fn unknown(wanted: &str) -> String {
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let near = nearest(wanted, known.iter().map(String::as_str));
    if near.is_empty() {
        format!("there is no time zone {wanted:?}; write an IANA name, for example Europe/Berlin")
    } else {
        format!("there is no time zone {wanted:?}; did you mean {}?", near.join(", "))
    }
}

/// The names that are nearest: by the whole name, or by its last part, the city.
fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_ascii_lowercase();
    let city = last_part(&wanted);
    let score = |name: &'a str| {
        let lower = name.to_ascii_lowercase();
        let apart = distance(&wanted, &lower).min(distance(city, last_part(&lower)));
        (apart <= APART_MAX && apart < city.len()).then_some((apart, name))
    };
    let mut found: Vec<(usize, &str)> = known.filter_map(score).collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(OFFERED).map(|(_, name)| name).collect()
}

fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Letters to insert, remove or exchange.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (up, a) in one.bytes().enumerate() {
        let mut next = vec![up.saturating_add(1)];
        for ((b, diagonal), above) in other.bytes().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or_default();
            let exchanged = diagonal.saturating_add(usize::from(a != b));
            next.push(exchanged.min(above.saturating_add(1)).min(left.saturating_add(1)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_what_was_meant() {
        for (wanted, meant) in [
            ("Europe/Berln", "Europe/Berlin"),
            ("Berlin", "Europe/Berlin"),
            ("America/NewYork", "America/New_York"),
            ("Asia/Calcuta", "Asia/Calcutta"),
        ] {
            assert!(unknown(wanted).contains(meant), "{}", unknown(wanted));
        }
        assert!(
            unknown("Nowhere/Atlantis-City").contains("for example"),
            "{}",
            unknown("Nowhere/Atlantis-City")
        );
    }

    #[test]
    fn distances_are_counted_in_letters() {
        for (one, other, apart) in
            [("", "", 0), ("", "ab", 2), ("berlin", "berln", 1), ("abc", "axc", 1), ("ab", "ba", 2)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (apart, apart), "{one} {other}");
        }
    }
}
