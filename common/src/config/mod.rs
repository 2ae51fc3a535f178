//! Configuration: TOML, drop-ins, environment; unknown keys refused; every error shows the place.
//!
//! Job: read `FILE`, then `FILE.d/*.toml` in name order, then `PREFIX_SECTION__KEY` variables, each overriding the ones
//! before, and turn the result into the caller's *raw* type. The caller validates raw into its real configuration.
//! Must never: guess. An unknown key is a spelling mistake in a limit somebody believes is set.
//!
//! Raw types are `#[serde(deny_unknown_fields)]`; durations are [`Span`] (`"10s"`), sizes [`Size`] (`"64MiB"`).

mod error;
mod load;
mod merge;
mod units;

pub use error::ConfigError;
pub use load::{CONFIG_MAX_BYTES, DROP_INS_MAX, load, load_from, parse};
pub use units::{Size, Span, UnitError};
