//! The real `quorate-helper` process over its socket, with real children of the process driver.

mod crash;
mod data;
mod edge;
mod fixture;
mod hooks;
mod leases;
mod maintenance;
mod obligations;
mod refusals;
mod releases;
mod traffic;
