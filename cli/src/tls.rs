//! Connections to coordinators from the files of a context.

use quorate_common::tls::{Address, ChannelLimits, ExpectedServer, LiveTls, Material, channel};
use quorate_common::with_causes;
use tonic::transport::Channel;

use crate::context::Context;
use crate::failure::{Failure, exit};

/// One lazily opened connection per coordinator.
///
/// # Errors
/// When a file cannot be read or used, or an address is malformed.
pub fn channels(context: &Context) -> Result<Vec<(String, Channel)>, Failure> {
    let material = Material::load(&context.ca, &context.cert, &context.key).map_err(|e| {
        Failure::failed(format!("the identity cannot be used: {}", with_causes(&e)))
            .with_code(exit::NOT_ALLOWED)
    })?;
    let tls = LiveTls::new(material)
        .client(ExpectedServer::AnyCoordinator)
        .map_err(|e| Failure::failed(with_causes(&e)).with_code(exit::NOT_ALLOWED))?;
    let mut channels = Vec::new();
    for text in &context.addresses {
        let address: Address = text.parse().map_err(|e| Failure::usage(with_causes(&e)))?;
        let opened = channel(&address, &tls, &ChannelLimits::default())
            .map_err(|e| Failure::usage(with_causes(&e)))?;
        channels.push((text.clone(), opened));
    }
    Ok(channels)
}
