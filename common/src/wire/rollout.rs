//! How a rollout advances: waves, and what a failure leads to.

use quorate_model::rollout::{RAMP_MAX, ZONE_LABEL};
use quorate_model::{DurationMs, MigrationChoice, OnFailure, Promotion, Share, WavePolicy};
use quorate_proto::v1;

use super::Invalid;
use super::enums::{
    read_migration_choice, read_on_failure, read_promotion, write_migration_choice, write_on_failure,
    write_promotion,
};
use super::text::read_label_key;
use super::time::{read_duration, write_duration};

/// How the targets are cut into waves; the default when it is absent.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_waves(message: Option<v1::WavePolicy>) -> Result<WavePolicy, Invalid> {
    let Some(v1::WavePolicy { canary, ramp, hold, promotion, order, zone_label }) = message else {
        return Ok(WavePolicy::default());
    };
    if ramp.len() > RAMP_MAX {
        return Err(Invalid::new("ramp", format!("{} shares, expected at most {RAMP_MAX}", ramp.len())));
    }
    let share = |(number, text): (usize, &String)| {
        Share::parse(text).ok_or_else(|| {
            Invalid::new(
                format!("ramp[{number}]"),
                "expected a number such as 5, or a percentage such as 20%",
            )
        })
    };
    let policy = WavePolicy {
        canary,
        ramp: ramp.iter().enumerate().map(share).collect::<Result<_, _>>()?,
        hold: read_duration("hold", hold)?.unwrap_or(DurationMs::ZERO),
        promotion: if promotion == 0 {
            Promotion::Automatic
        } else {
            read_promotion("promotion", promotion)?
        },
        zone_label: read_zone_label(order, zone_label)?,
    };
    match policy.flaw() {
        Some((field, text)) => Err(Invalid::new(field, text)),
        None => Ok(policy),
    }
}

/// The label by which zones are told apart; none for the order by role.
fn read_zone_label(order: i32, label: String) -> Result<Option<String>, Invalid> {
    match v1::RolloutOrder::try_from(order) {
        Ok(v1::RolloutOrder::Zone) if label.is_empty() => Ok(Some(ZONE_LABEL.to_owned())),
        Ok(v1::RolloutOrder::Zone) => {
            read_label_key("zone_label", &label)?;
            Ok(Some(label))
        }
        Ok(v1::RolloutOrder::Unspecified | v1::RolloutOrder::Role) if label.is_empty() => Ok(None),
        Ok(v1::RolloutOrder::Unspecified | v1::RolloutOrder::Role) => {
            Err(Invalid::new("zone_label", "it goes with the order ZONE"))
        }
        Err(_) => Err(Invalid::new("order", format!("{order} is not known"))),
    }
}

/// As a message; absent when nothing was asked for.
#[must_use]
pub fn write_waves(policy: &WavePolicy) -> Option<v1::WavePolicy> {
    let WavePolicy { canary, ramp, hold, promotion, zone_label } = policy;
    (!policy.is_default()).then(|| v1::WavePolicy {
        canary: *canary,
        ramp: ramp.iter().map(ToString::to_string).collect(),
        hold: (!hold.is_zero()).then(|| write_duration(*hold)),
        promotion: write_promotion(*promotion) as i32,
        order: zone_label.as_ref().map_or(v1::RolloutOrder::Unspecified, |_| v1::RolloutOrder::Zone) as i32,
        zone_label: zone_label.clone().unwrap_or_default(),
    })
}

/// What a failure leads to; a safe stop when nothing is said.
///
/// # Errors
/// [`Invalid`] when it is not known.
pub fn read_policy(value: i32) -> Result<OnFailure, Invalid> {
    if value == 0 { Ok(OnFailure::Abort) } else { read_on_failure("on_failure", value) }
}

/// As a message; unspecified when it is the default, as it came.
#[must_use]
pub const fn write_policy(policy: OnFailure) -> v1::OnFailure {
    if policy.is_default() { v1::OnFailure::Unspecified } else { write_on_failure(policy) }
}

/// What becomes of the run-once hook; by itself when nothing is said.
///
/// # Errors
/// [`Invalid`] when it is not known.
pub fn read_migration(value: i32) -> Result<MigrationChoice, Invalid> {
    if value == 0 { Ok(MigrationChoice::Auto) } else { read_migration_choice("migration", value) }
}

/// As a message; unspecified when it is the default, as it came.
#[must_use]
pub const fn write_migration(choice: MigrationChoice) -> v1::MigrationChoice {
    if choice.is_default() { v1::MigrationChoice::Unspecified } else { write_migration_choice(choice) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_come_back_as_they_went() {
        let policy = WavePolicy {
            canary: 2,
            ramp: vec![Share::Count(5), Share::Percent(20)],
            hold: DurationMs::from_secs(600),
            promotion: Promotion::Every,
            zone_label: Some("rack".into()),
        };
        assert_eq!(read_waves(write_waves(&policy)).unwrap(), policy);
        assert_eq!(write_waves(&WavePolicy::default()), None);
        assert_eq!(read_waves(None).unwrap(), WavePolicy::default());
        for policy in OnFailure::ALL {
            assert_eq!(read_policy(write_policy(*policy) as i32).unwrap(), *policy);
        }
        for choice in MigrationChoice::ALL {
            assert_eq!(read_migration(write_migration(*choice) as i32).unwrap(), *choice);
        }
    }

    #[test]
    fn bad_waves_name_their_field() {
        let field = |message| read_waves(Some(message)).unwrap_err().field;
        let ramp = |ramp: &[&str]| v1::WavePolicy {
            ramp: ramp.iter().map(|s| (*s).to_owned()).collect(),
            ..Default::default()
        };
        assert_eq!(field(ramp(&["1", "0"])), "ramp[1]");
        assert_eq!(field(ramp(&["101%"])), "ramp[0]");
        assert_eq!(field(ramp(&["1"; RAMP_MAX + 1])), "ramp");
        assert_eq!(field(v1::WavePolicy { canary: 501, ..Default::default() }), "canary");
        assert_eq!(field(v1::WavePolicy { promotion: 9, ..Default::default() }), "promotion");
        let alone = v1::WavePolicy { promotion: v1::Promotion::Canary as i32, ..Default::default() };
        assert_eq!(field(alone), "promotion");
        let hold = Some(prost_types::Duration { seconds: 90_000, nanos: 0 });
        assert_eq!(field(v1::WavePolicy { hold, ..Default::default() }), "hold");
        assert_eq!(field(v1::WavePolicy { zone_label: "rack".into(), ..Default::default() }), "zone_label");
        let zone = v1::RolloutOrder::Zone as i32;
        assert_eq!(
            field(v1::WavePolicy { order: zone, zone_label: "a b".into(), ..Default::default() }),
            "zone_label"
        );
        assert_eq!(field(v1::WavePolicy { order: 9, ..Default::default() }), "order");
        let plain = read_waves(Some(v1::WavePolicy { order: zone, ..Default::default() })).unwrap();
        assert_eq!(plain.zone_label.as_deref(), Some("zone"));
        assert_eq!(read_policy(9).unwrap_err().field, "on_failure");
        assert_eq!(read_migration(9).unwrap_err().field, "migration");
    }
}
