//! What agents and coordinators say of leases.

use quorate_model::lease::{LEASE_TTL_MAX, LEASE_TTL_MIN};
use quorate_model::{DurationMs, Epoch, HeldLease, LeaseAnswer, LeaseHold, LeaseRenewal};
use quorate_proto::agent::v1 as proto;

use super::LINE_MAX_BYTES;
use super::work::read_span;
use crate::wire::Invalid;
use crate::wire::text::{printable, read_name};
use crate::wire::time::write_duration;

/// A time to live within its limits.
pub(in crate::wire) fn read_ttl(
    field: &str,
    ttl: Option<prost_types::Duration>,
) -> Result<DurationMs, Invalid> {
    let ttl = read_span(field, ttl)?;
    if ttl < LEASE_TTL_MIN || ttl > LEASE_TTL_MAX {
        return Err(Invalid::new(field, format!("it must be {LEASE_TTL_MIN} to {LEASE_TTL_MAX}")));
    }
    Ok(ttl)
}

/// A lease that an instance holds.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_held(message: proto::HeldLease) -> Result<HeldLease, Invalid> {
    let proto::HeldLease { group, service, epoch, ttl, recalled } = message;
    Ok(HeldLease {
        group: read_name("group", group)?,
        service: read_name("service", service)?,
        epoch: Epoch(epoch),
        ttl: read_ttl("ttl", ttl)?,
        recalled,
    })
}

/// As a message.
#[must_use]
pub fn write_held(lease: &HeldLease) -> proto::HeldLease {
    let HeldLease { group, service, epoch, ttl, recalled } = lease;
    proto::HeldLease {
        group: group.to_string(),
        service: service.to_string(),
        epoch: epoch.0,
        ttl: Some(write_duration(*ttl)),
        recalled: *recalled,
    }
}

/// A host asks for more time, or needs no more.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_renewal(message: proto::LeaseRenewal) -> Result<LeaseRenewal, Invalid> {
    let proto::LeaseRenewal { group, epoch, nonce, hold, message, answered } = message;
    let hold = match proto::LeaseHold::try_from(hold) {
        Ok(proto::LeaseHold::Held) => LeaseHold::Held,
        Ok(proto::LeaseHold::Released) => LeaseHold::Released,
        Ok(proto::LeaseHold::Unspecified) | Err(_) => {
            return Err(Invalid::new("hold", "it is not one of its values"));
        }
    };
    Ok(LeaseRenewal {
        group: read_name("group", group)?,
        epoch: Epoch(epoch),
        nonce,
        hold,
        answered,
        message: printable(&message, LINE_MAX_BYTES),
    })
}

/// As a message.
#[must_use]
pub fn write_renewal(renewal: &LeaseRenewal) -> proto::LeaseRenewal {
    let LeaseRenewal { group, epoch, nonce, hold, answered, message } = renewal;
    let hold = match hold {
        LeaseHold::Held => proto::LeaseHold::Held,
        LeaseHold::Released => proto::LeaseHold::Released,
    };
    proto::LeaseRenewal {
        group: group.to_string(),
        epoch: epoch.0,
        nonce: *nonce,
        hold: hold as i32,
        message: message.clone(),
        answered: *answered,
    }
}

/// What becomes of a renewal.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_answer(message: proto::LeaseAnswer) -> Result<LeaseAnswer, Invalid> {
    let proto::LeaseAnswer { group, epoch, nonce, granted } = message;
    Ok(LeaseAnswer { group: read_name("group", group)?, epoch: Epoch(epoch), nonce, granted })
}

/// As a message.
#[must_use]
pub fn write_answer(answer: &LeaseAnswer) -> proto::LeaseAnswer {
    let LeaseAnswer { group, epoch, nonce, granted } = answer;
    proto::LeaseAnswer { group: group.to_string(), epoch: epoch.0, nonce: *nonce, granted: *granted }
}
