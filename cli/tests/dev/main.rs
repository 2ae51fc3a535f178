//! Process tests of `quorate dev`: the real binary, real signals, real sockets.

mod group;
mod ledger;
mod pair;
mod supervisor;
