//! Pre-flight: what is looked at before an instance is worked on.

use quorate_model::preflight::{FREE_PERCENT, REQUIRED_MAX_BYTES, REQUIRES_MAX, SKEW_MAX};
use quorate_model::{DurationMs, PreflightSpec, Required};
use quorate_proto::v1;

use super::Invalid;
use super::invalid::each;
use super::text::read_filled;
use super::time::{read_duration_or, write_duration};

/// More than half of a disk that must stay free is a mistake.
const FREE_PERCENT_MAX: u32 = 50;
/// A clock that is further off than this is wrong by any measure.
const SKEW_MOST: DurationMs = DurationMs::from_secs(60);

/// What is looked at before an instance is worked on.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_preflight(message: v1::PreflightSpec) -> Result<PreflightSpec, Invalid> {
    let v1::PreflightSpec { requires, min_free_percent, min_memory_bytes, max_clock_skew } = message;
    let min_free_percent = min_free_percent.unwrap_or(FREE_PERCENT);
    if min_free_percent > FREE_PERCENT_MAX {
        return Err(Invalid::new("min_free_percent", format!("{FREE_PERCENT_MAX} is the limit")));
    }
    let max_clock_skew = match read_duration_or("max_clock_skew", max_clock_skew, SKEW_MAX)? {
        DurationMs::ZERO => SKEW_MAX,
        longer if longer > SKEW_MOST => {
            return Err(Invalid::new("max_clock_skew", "it is longer than a minute"));
        }
        fits => fits,
    };
    Ok(PreflightSpec {
        requires: each("requires", requires, REQUIRES_MAX, read_required)?,
        min_free_percent,
        min_memory_bytes,
        max_clock_skew,
    })
}

fn read_required(message: v1::Required) -> Result<Required, Invalid> {
    use v1::required::What;
    let v1::Required { what } = message;
    match what.ok_or_else(|| Invalid::missing("what"))? {
        What::Unit(unit) => {
            let unit = read_filled("unit", unit, REQUIRED_MAX_BYTES)?;
            // What variables are filled with is checked on the host.
            if unit.contains("${") || super::service::is_unit(&unit) {
                Ok(Required::Unit { unit })
            } else {
                Err(Invalid::new("unit", super::service::NO_UNIT))
            }
        }
        What::Address(address) => {
            let address = read_filled("address", address, REQUIRED_MAX_BYTES)?;
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
            match port {
                Some(port) if port.contains("${") || port.parse::<u16>().is_ok_and(|p| p > 0) => {
                    Ok(Required::Address { address })
                }
                Some(_) | None => Err(Invalid::new("address", "it must be host:port")),
            }
        }
    }
}

/// As a message.
#[must_use]
pub fn write_preflight(preflight: &PreflightSpec) -> v1::PreflightSpec {
    use v1::required::What;
    let PreflightSpec { requires, min_free_percent, min_memory_bytes, max_clock_skew } = preflight;
    let write = |required: &Required| v1::Required {
        what: Some(match required {
            Required::Unit { unit } => What::Unit(unit.clone()),
            Required::Address { address } => What::Address(address.clone()),
        }),
    };
    v1::PreflightSpec {
        requires: requires.iter().map(write).collect(),
        min_free_percent: Some(*min_free_percent),
        min_memory_bytes: *min_memory_bytes,
        max_clock_skew: Some(write_duration(*max_clock_skew)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> v1::Required {
        v1::Required { what: Some(v1::required::What::Unit(name.into())) }
    }

    fn address(text: &str) -> v1::Required {
        v1::Required { what: Some(v1::required::What::Address(text.into())) }
    }

    #[test]
    fn a_declaration_comes_back_with_its_defaults() {
        let empty = read_preflight(v1::PreflightSpec::default()).unwrap();
        assert_eq!(empty, PreflightSpec::default());
        let requires = vec![unit("db.service"), unit("${db}"), address("db:5432"), address("[::1]:${port}")];
        let message = v1::PreflightSpec { requires, min_free_percent: Some(0), ..Default::default() };
        let full = read_preflight(message).unwrap();
        assert_eq!((full.requires.len(), full.min_free_percent), (4, 0), "said is not the same as left out");
        assert_eq!(read_preflight(write_preflight(&full)), Ok(full));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let of = |required| v1::PreflightSpec { requires: vec![required], ..Default::default() };
        let field = |message| read_preflight(message).unwrap_err().field;
        for bad in ["", "db", "db.service; reboot", "-x.service", "a/b.service"] {
            assert_eq!(field(of(unit(bad))), "requires[0].unit", "{bad}");
        }
        for bad in ["", "db", ":5432", "db:", "db:0", "db:66000", "db:http"] {
            assert_eq!(field(of(address(bad))), "requires[0].address", "{bad}");
        }
        assert_eq!(field(of(v1::Required { what: None })), "requires[0].what");
        let many = vec![unit("a.service"); 33];
        assert_eq!(field(v1::PreflightSpec { requires: many, ..Default::default() }), "requires");
        let free = v1::PreflightSpec { min_free_percent: Some(51), ..Default::default() };
        assert_eq!(field(free), "min_free_percent");
        let skew = Some(write_duration(DurationMs::from_secs(61)));
        assert_eq!(field(v1::PreflightSpec { max_clock_skew: skew, ..Default::default() }), "max_clock_skew");
    }
}
