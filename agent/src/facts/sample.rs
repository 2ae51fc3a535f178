//! Samples and their text form.

use std::fmt::{self, Write};

use super::metrics::{ALL, Metric};

/// An exact decimal: `units` times ten to the minus `decimals`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// Smallest units.
    pub units: u64,
    /// Digits after the point, at most 9.
    pub decimals: u8,
}

impl Value {
    /// A whole number.
    #[must_use]
    pub const fn whole(units: u64) -> Self {
        Self { units, decimals: 0 }
    }

    /// Seconds from microseconds.
    #[must_use]
    pub const fn micros(us: u64) -> Self {
        Self { units: us, decimals: 6 }
    }

    /// As a float, for the wire, where rounding does not matter any more.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a metric beyond 2^53 loses digits nobody reads")]
    pub fn as_f64(self) -> f64 {
        self.units as f64 / 10_f64.powi(i32::from(self.decimals))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.decimals == 0 {
            return write!(f, "{}", self.units);
        }
        let scale = 10_u64.saturating_pow(u32::from(self.decimals));
        write!(f, "{}.{:0width$}", self.units / scale, self.units % scale, width = usize::from(self.decimals))
    }
}

/// One value of one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which metric.
    pub metric: &'static Metric,
    /// Labels, in a fixed order.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

impl Sample {
    /// Without labels.
    #[must_use]
    pub const fn plain(metric: &'static Metric, value: Value) -> Self {
        Self { metric, labels: Vec::new(), value }
    }

    /// With one label.
    #[must_use]
    pub fn one(metric: &'static Metric, label: &'static str, text: impl Into<String>, value: Value) -> Self {
        Self { metric, labels: vec![(label, text.into())], value }
    }
}

/// Prometheus text format 0.0.4: one HELP and TYPE per metric, its samples together.
pub fn render(samples: &[Sample], out: &mut String) {
    for metric in ALL {
        let mut first = true;
        for sample in samples.iter().filter(|s| s.metric.name == metric.name) {
            if first {
                first = false;
                let _ = writeln!(
                    out,
                    "# HELP {0} {1}\n# TYPE {0} {2}",
                    metric.name,
                    metric.help,
                    metric.kind.as_str()
                );
            }
            render_one(sample, out);
        }
    }
}

fn render_one(sample: &Sample, out: &mut String) {
    // Writing to a String can not fail.
    out.push_str(sample.metric.name);
    for (i, (name, text)) in sample.labels.iter().enumerate() {
        let _ = write!(out, "{}{name}=\"", if i == 0 { '{' } else { ',' });
        for c in text.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c if c.is_control() => out.push('?'),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    if !sample.labels.is_empty() {
        out.push('}');
    }
    let _ = writeln!(out, " {}", sample.value);
}

#[cfg(test)]
mod tests {
    use super::super::metrics::{LOAD1, UNIT_UP};
    use super::*;

    #[test]
    fn names_are_unique_documented_and_of_their_kind() {
        use super::super::metrics::MetricKind;
        let mut names: Vec<&str> = ALL.iter().map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for m in ALL {
            assert!(m.help.ends_with('.') && m.help.len() > 5, "{}", m.name);
            assert_eq!(m.name.ends_with("_total"), m.kind == MetricKind::Counter, "{}", m.name);
            assert!(m.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        }
    }

    #[test]
    fn values_are_exact() {
        assert_eq!(Value::micros(1_000_001).to_string(), "1.000001");
        assert_eq!(Value { units: 123, decimals: 2 }.to_string(), "1.23");
        assert_eq!(Value::whole(u64::MAX).to_string(), u64::MAX.to_string());
        assert!((Value::micros(2_500_000).as_f64() - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn hostile_labels_stay_inside_their_quotes() {
        let mut text = String::new();
        let samples = [
            Sample::one(UNIT_UP, "service", "a\"b\\c\nd\u{1b}", Value::whole(1)),
            Sample::plain(LOAD1, Value { units: 5, decimals: 2 }),
            Sample::one(UNIT_UP, "service", "z", Value::whole(0)),
        ];
        render(&samples, &mut text);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert_eq!(lines[2], "quorate_agent_load1 0.05");
        assert_eq!(lines[5], r#"quorate_agent_unit_up{service="a\"b\\c\nd?"} 1"#);
    }
}
