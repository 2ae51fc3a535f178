//! Hosts that put the data of an instance aside, and back.

use quorate_model::{ActionSpec, DataVerb, InstanceId};

use super::Fleet;

impl Fleet {
    /// Only of an instance that does not run.
    pub(super) fn rename_data(&mut self, instance: &InstanceId, action: &ActionSpec) {
        let ActionSpec::Data { quarantine, verb, .. } = action else { return };
        assert!(!self.truth[instance].up, "{instance} runs while its data is renamed");
        let set = (instance.node.clone(), quarantine.to_string());
        match verb {
            DataVerb::Quarantine => drop(self.aside.insert(set)),
            DataVerb::Revert => drop(self.aside.remove(&set)),
        }
    }
}
