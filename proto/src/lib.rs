//! Quorate's protocol: the `.proto` files under `proto/quorate` and the code generated from them, nothing else.
//!
//! Must never: hold a conversion, a default or a decision. What turns a message into a thing is `quorate_common::wire`.
//!
//! **Architecture Invariant:** field numbers are never used twice; `tests/frozen.rs` compares with the frozen descriptor.

/// The automation API.
#[expect(clippy::large_enum_variant, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("quorate.v1");
}

/// The agent's session.
pub mod agent {
    /// Version 1.
    #[allow(clippy::large_enum_variant, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("quorate.agent.v1");
    }
}

/// Coordinator to coordinator.
pub mod peer {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("quorate.peer.v1");
    }
}

/// Every file above with its imports and comments, as a serialised `FileDescriptorSet`.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

include!(concat!(env!("OUT_DIR"), "/methods.rs"));
