//! One collection: every collector once, each with its own error.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::metrics as m;
use super::reader::Reader;
use super::sample::{Sample, Value};
use super::units::WatchedUnit;
use super::{disks, system, units};

type Collect = fn(&mut Reader, &mut Vec<Sample>) -> io::Result<()>;

/// Every collector by name.
const COLLECTORS: [(&str, Collect); 11] = [
    ("cpu", system::cpu),
    ("memory", system::memory),
    ("load", system::load),
    ("processes", system::processes),
    ("network", system::network),
    ("files", system::files),
    ("pressure", system::pressure),
    ("uptime", system::uptime),
    ("filesystem", disks::filesystems),
    ("disk", disks::devices),
    ("self", units::own),
];

/// What one collection found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    /// The samples.
    pub samples: Vec<Sample>,
    /// Collectors that could not read their source, with the reason. Their samples are missing or in part.
    pub errors: Vec<(&'static str, String)>,
}

/// Collects on request; holds nothing but a buffer.
pub struct Collector {
    reader: Reader,
}

impl Default for Collector {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

impl Collector {
    /// A collector that reads below `root`: `/`, or a made-up tree in tests.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { reader: Reader::new(root) }
    }

    /// Runs every collector. Takes well under a millisecond on an ordinary host; never fails as a whole.
    pub fn collect(&mut self, watched: &[WatchedUnit]) -> Collection {
        let began = Instant::now();
        let mut found = Collection { samples: Vec::with_capacity(256), errors: Vec::new() };
        let version = Sample::one(m::BUILD_INFO, "version", env!("CARGO_PKG_VERSION"), Value::whole(1));
        found.samples.push(version);
        for (name, collect) in COLLECTORS {
            let result = collect(&mut self.reader, &mut found.samples);
            let up = Value::whole(u64::from(result.is_ok()));
            found.samples.push(Sample::one(m::COLLECTOR_UP, "collector", name, up));
            if let Err(e) = result {
                found.errors.push((name, e.to_string()));
            }
        }
        units::watched(&mut self.reader, watched, &mut found.samples);
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        found.samples.push(Sample::plain(m::COLLECT_SECONDS, Value::micros(took)));
        found
    }
}
