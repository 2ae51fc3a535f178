//! Renewals over a real session, with a helper that takes every lease up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use quorate_common::wire::agent::{FromAgent, ToAgent};
use quorate_model::session::{NodeInstance, NodeWork};
use quorate_model::{
    Driver, DurationMs, Epoch, GroupName, HeldLease, LeaseAnswer, LeaseHold, LeaseRenewal, ServiceName,
};

use super::{PATIENCE, Seen, authority, bench, coordinator, greet};
use crate::helper::protocol::{self, Answer, Request};
use crate::helper::{Way, Wire};
use crate::runner::leases::{LeaseOrder, LeaseStanding, LeaseWord};
use crate::session::leases;

type Orders = Arc<Mutex<Vec<LeaseOrder>>>;

/// A helper that keeps to every lease until it is recalled, and notes what it was told.
fn helper(orders: &Orders) -> Way {
    let orders = Arc::clone(orders);
    Way::new(move || {
        let orders = Arc::clone(&orders);
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            while let Ok(request) = protocol::read::<Request>(&mut far).await {
                let Request::Lease(order) = request else {
                    assert_eq!(request, Request::Leases);
                    protocol::write(&mut far, &Answer::Leases(Vec::new())).await.unwrap();
                    continue;
                };
                let standing = if order.lease.recalled {
                    LeaseStanding::Released("stopped".to_owned())
                } else {
                    LeaseStanding::Kept
                };
                orders.lock().unwrap().push(*order);
                if protocol::write(&mut far, &Answer::Lease(standing)).await.is_err() {
                    return;
                }
            }
        });
        async move { Ok(Box::new(near) as Box<dyn Wire>) }.boxed()
    })
}

fn work(recalled: bool) -> ToAgent {
    let service = ServiceName::new("ledger").unwrap();
    let lease = HeldLease {
        group: GroupName::new("db").unwrap(),
        service: service.clone(),
        epoch: Epoch(7),
        ttl: DurationMs(3_000),
        recalled,
    };
    let instance = NodeInstance {
        service,
        driver: Driver::Process { name: "ledger".to_owned() },
        running: true,
        stop_timeout: DurationMs(1_000),
        start_timeout: DurationMs(1_000),
    };
    ToAgent::Work(NodeWork { leases: vec![lease], instances: vec![instance], ..NodeWork::default() })
}

async fn renewal(seen: &mut Seen) -> LeaseRenewal {
    seen.until(|_, said| match said {
        FromAgent::Lease(renewal) => Some(renewal),
        _ => None,
    })
    .await
}

async fn until(what: &str, mut look: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !look() {
        assert!(tokio::time::Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn it_is_renewed_and_a_coordinator_that_does_not_answer_is_left() {
    let ca = authority();
    let (one, mut first, _) = coordinator(&ca).await;
    let (two, mut second, _) = coordinator(&ca).await;
    let bench = bench(&ca, &[one, two], Duration::from_secs(3_600));
    let orders = Orders::default();
    tokio::spawn(leases::run(Arc::clone(&bench.hub), helper(&orders), bench.shutdown.clone()));
    let (mut seen, other) = tokio::select! {
        seen = greet(&mut first) => (seen, &mut second),
        seen = greet(&mut second) => (seen, &mut first),
    };
    let before = crate::session::now();
    seen.tell(&work(false)).await;
    let LeaseRenewal { group, epoch, nonce, hold, .. } = renewal(&mut seen).await;
    assert_eq!((group.as_str(), epoch, hold), ("db", Epoch(7), LeaseHold::Held));
    assert!(!orders.lock().unwrap().is_empty(), "the helper was told first");
    seen.tell(&ToAgent::Lease(LeaseAnswer { group: group.clone(), epoch, nonce: nonce ^ 1, granted: true }))
        .await;
    seen.tell(&ToAgent::Lease(LeaseAnswer { group, epoch, nonce, granted: true })).await;
    let after = crate::session::now();
    let granted = || {
        let words: Vec<_> = orders.lock().unwrap().iter().filter_map(|order| order.answer).collect();
        words.into_iter().next()
    };
    until("the helper learns of it", || granted().is_some()).await;
    let Some(LeaseWord::Granted { sent }) = granted() else { panic!("it was granted") };
    assert!(before <= sent && sent <= after, "{before} {sent} {after}");
    // It hears everything and answers no renewal: the other one is called, and asked at once.
    let mut asked = 0;
    let (mut next, ()) = tokio::join!(greet(other), async {
        while let Some((sequence, said)) = seen.next().await {
            match said {
                FromAgent::Heartbeat(_) => {
                    let time = crate::host::clock::now();
                    let _ = seen
                        .answer
                        .send(Ok(super::write_to_agent(&ToAgent::HeartbeatAck { sequence, time })))
                        .await;
                }
                FromAgent::Lease(_) => asked += 1,
                _ => {}
            }
        }
    });
    assert!(asked > 0, "it was asked again before it was left");
    let again = renewal(&mut next).await;
    assert_ne!(again.nonce, nonce);
    // Recalled, it is given back, again and again, until nobody wants to know.
    next.tell(&work(true)).await;
    let released = async {
        loop {
            let said = renewal(&mut next).await;
            if said.hold == LeaseHold::Released {
                return said.message;
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, released).await.unwrap(), "stopped");
    next.tell(&ToAgent::Work(NodeWork::default())).await;
    until("it is let go", || bench.hub.renewals(|renewals| renewals.next().is_none())).await;
}
