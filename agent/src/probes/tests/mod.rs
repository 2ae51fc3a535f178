//! Verdicts on made-up answers, and readings from real loopback servers that behave and misbehave.

mod alerts;
mod certificate;
mod measure;
mod network;
mod verdicts;
