//! Tests of the door itself.
