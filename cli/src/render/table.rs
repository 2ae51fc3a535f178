//! Plain columns, two spaces apart, no lines: greppable, and narrow enough for a terminal.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// A table that is built row by row.
pub struct Columns {
    table: Table,
    rows: usize,
}

impl Columns {
    /// Begins a table with a header.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header.iter().map(|h| h.to_uppercase()));
        Self { table, rows: 0 }
    }

    /// Adds a row.
    pub fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        self.table.add_row(cells);
        self.rows = self.rows.saturating_add(1);
    }

    /// The text, or `none` when there is no row.
    #[must_use]
    pub fn finish(mut self, none: &str) -> String {
        if self.rows == 0 {
            return none.to_owned();
        }
        let count = self.table.column_count();
        for i in 0..count {
            if let Some(column) = self.table.column_mut(i) {
                column.set_padding((0, if i.saturating_add(1) == count { 0 } else { 3 }));
            }
        }
        let text = self.table.to_string();
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

/// `-` for nothing.
#[must_use]
pub fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { super::style::safe(text) }
}

/// `k=v,k=v`.
#[must_use]
pub fn labels<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let text: Vec<String> = pairs.map(|(k, v)| format!("{k}={v}")).collect();
    dash(&text.join(","))
}

/// `12s`, `4m12s` since a time; `-` when it is not set.
#[must_use]
pub fn age(at: Option<&prost_types::Timestamp>) -> String {
    span(at, None)
}

/// Time between two points, to now when the second is not set; seconds, and below one `<1s`.
#[must_use]
pub fn span(from: Option<&prost_types::Timestamp>, to: Option<&prost_types::Timestamp>) -> String {
    let Some(from) = from else { return "-".to_owned() };
    let end = to.map_or_else(|| jiff::Timestamp::now().as_second(), |t| t.seconds);
    match u64::try_from(end.saturating_sub(from.seconds)).unwrap_or(0) {
        0 => "<1s".to_owned(),
        seconds => quorate_model::DurationMs::from_secs(seconds).to_string(),
    }
}

/// `1.2 MiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = count.saturating_mul(10);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_lines() {
        let mut columns = Columns::new(&["node", "status"]);
        columns.row(["node1".to_owned(), "READY".to_owned()]);
        columns.row(["n2".to_owned(), "DOWN".to_owned()]);
        assert_eq!(columns.finish("none"), "NODE    STATUS\nnode1   READY\nn2      DOWN");
    }

    #[test]
    fn times_are_told_in_seconds() {
        let at = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
        assert_eq!(span(Some(&at(5)), Some(&at(257))), "4m12s");
        assert_eq!(span(Some(&at(5)), Some(&at(5))), "<1s");
        assert_eq!(span(Some(&at(5)), Some(&at(1))), "<1s", "a clock that went back is no huge number");
        assert_eq!(span(None, Some(&at(5))), "-");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX / 10), "1677721.5 TiB");
    }
}
