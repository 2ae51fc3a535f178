//! Real fleets on loopback. Filled by the process tests.
