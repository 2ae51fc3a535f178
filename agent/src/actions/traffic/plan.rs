//! What a pool's state allows. Pure.

use quorate_model::{Reason, TrafficSpec};

/// The balancer's own check of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// It has none, or does not run it now.
    None,
    /// It passes, as often as the balancer wants.
    Passing,
    /// It does not; what it says.
    Failing(String),
}

/// Where our server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It gets new connections when it serves.
    In,
    /// It gets none.
    Out,
    /// Somebody put it into maintenance.
    Maintenance,
}

/// A pool as its balancers tell it; of several the worst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Where our server stands.
    pub(super) place: Place,
    /// The balancer sends it connections now.
    pub(super) serves: bool,
    /// Its check.
    pub(super) check: Check,
    /// Other servers that get connections now.
    pub(super) others_up: u32,
    /// Connections of our server; none when they can not be counted.
    pub(super) connections: Option<u64>,
}

impl View {
    /// What two balancers with the same pool say together.
    pub(super) fn and(self, other: Self) -> Self {
        let place = match (self.place, other.place) {
            (Place::Maintenance, _) | (_, Place::Maintenance) => Place::Maintenance,
            (Place::In, _) | (_, Place::In) => Place::In,
            (Place::Out, Place::Out) => Place::Out,
        };
        let check = match (self.check, other.check) {
            (Check::Failing(why), _) | (_, Check::Failing(why)) => Check::Failing(why),
            (Check::None, _) | (_, Check::None) => Check::None,
            (Check::Passing, Check::Passing) => Check::Passing,
        };
        Self {
            place,
            serves: self.serves && other.serves,
            check,
            others_up: self.others_up.min(other.others_up),
            connections: self.connections.zip(other.connections).map(|(a, b)| a.saturating_add(b)),
        }
    }
}

/// Why a drain is refused before anything is touched, if it is. A server that gets no connections anyway costs nothing.
pub(super) fn may_drain(
    view: &View,
    traffic: &TrafficSpec,
    has_health_hook: bool,
    waits: bool,
) -> Result<(), (Reason, String)> {
    let TrafficSpec { backend, server, .. } = traffic;
    if view.place == Place::Maintenance {
        let text = format!("somebody put {server} of {backend} into maintenance: it is theirs to end it");
        return Err((Reason::WrongState, text));
    }
    if view.check == Check::None && !has_health_hook {
        let text = format!(
            "the balancer does not check {server} of {backend} and no health hook is declared: \
             nothing would tell when it may come back"
        );
        return Err((Reason::BalancerUnreadable, text));
    }
    if view.connections.is_none() && waits {
        let text = format!("the connections of {server} of {backend} cannot be counted");
        return Err((Reason::BalancerUnreadable, text));
    }
    if view.place == Place::In { enough(view, traffic) } else { Ok(()) }
}

/// Whether the others are enough.
pub(super) fn enough(view: &View, traffic: &TrafficSpec) -> Result<(), (Reason, String)> {
    let TrafficSpec { backend, server, min_up, .. } = traffic;
    if view.others_up >= *min_up {
        return Ok(());
    }
    let text =
        format!("without {server} the pool {backend} has {} that serve, needs {min_up}", view.others_up);
    Err((Reason::PoolMinimum, text))
}

/// Whether an instance whose unit runs is fit to serve: the health hook's word where there is one, else the balancer's.
pub(super) fn fit(check: &Check, hook: Option<Result<(), String>>) -> Result<(), String> {
    match (check, hook) {
        (Check::Failing(why), _) => Err(format!("the balancer's check says {why}")),
        (_, Some(said)) => said,
        (Check::Passing, None) => Ok(()),
        (Check::None, None) => Err("nothing tells whether it is healthy".to_owned()),
    }
}
