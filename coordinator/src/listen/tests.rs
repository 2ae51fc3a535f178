//! The listeners over real sockets on loopback.

mod attacks;
mod fixture;
mod grpc;
mod limits;
mod web;
