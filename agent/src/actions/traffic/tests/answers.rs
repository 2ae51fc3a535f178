//! What HAProxy says: recorded from 2.6.12, and what a broken or hostile one could say.

use std::time::Duration;

use quorate_model::{BalancerName, DurationMs, OnTimeout, Reason, TrafficSpec};
use tokio::io::AsyncWriteExt;

use super::super::haproxy::{obeyed, order, questions, view};
use super::super::plan::{Check, Place, View, enough, fit, may_drain};
use crate::host::admin::{self, ANSWER_MAX_BYTES, AdminAddress};

const STATE_HEAD: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n";
const STAT_HEAD: &str = "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,check_status,check_code,check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,req_rate,req_rate_max,req_tot,cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,lastsess,last_chk,last_agt,qtime,ctime,rtime,ttime,agent_status,agent_code,agent_duration,check_desc,agent_desc,check_rise,check_fall,check_health,agent_rise,agent_fall,agent_health,addr\n";

/// The recorded pool: s1 drained and its check failed, s2 up, s3 without a check.
fn recorded() -> (String, String) {
    let state = format!(
        "{STATE_HEAD}3 b 1 s1 127.0.0.1 0 8 1 1 1 8 2 0 6 0 0 0 - 18081 - 0 0 - - 0\n\
         3 b 2 s2 127.0.0.1 2 0 1 1 4 15 3 3 6 0 0 0 - 18082 - 0 0 - - 0\n\
         3 b 3 s3 127.0.0.1 2 0 1 1 5 1 0 2 0 0 0 0 - 18083 - 0 0 - - 0\n\n"
    );
    let stat = format!(
        "{STAT_HEAD}b,s1,0,0,2,0,,0,0,0,,0,,0,0,0,0,DOWN,1,1,0,3,2,1,2,,1,3,1,,0,,2,0,,0,L4CON,,0,0,0,0,0,0,0,,,,0,0,0,,,,,-1,Connection refused,,0,0,0,0,,,,Layer4 connection problem,,2,2,0,,,,127.0.0.1:18081\n\
         b,s2,1,0,4,0,,0,0,0,,0,,0,0,0,0,UP,1,1,0,1,1,4,1,,1,3,2,,0,,2,0,,0,* L7OK,200,0,0,0,0,0,0,0,,,,0,0,0,,,,,-1,\"OK, they say \"\"fine\"\"\",,0,0,0,0,,,,Layer7 check passed,,2,2,3,,,,127.0.0.1:18082\n\
         b,s3,0,0,0,0,,0,0,0,,0,,0,0,0,0,no check,1,1,0,,,5,,,1,3,3,,0,,2,0,,0,,,,0,0,0,0,0,0,,,,0,0,0,,,,,-1,,,0,0,0,0,,,,,,,,,,,,127.0.0.1:18083\n\n"
    );
    (state, stat)
}

fn of(server: &str) -> Result<View, String> {
    let (state, stat) = recorded();
    view("b", server, &state, &stat)
}

#[test]
fn a_recorded_pool_is_read() {
    let s1 = of("s1").unwrap();
    assert_eq!((s1.place, s1.serves, s1.others_up, s1.connections), (Place::Out, false, 2, Some(2)));
    assert_eq!(s1.check, Check::Failing("L4CON".into()));
    let s2 = of("s2").unwrap();
    assert_eq!((s2.place, s2.serves, s2.others_up), (Place::In, true, 1), "a drained server is no other");
    assert_eq!((s2.check, s2.connections), (Check::Passing, Some(5)), "what waits in its queue counts");
    assert_eq!(of("s3").unwrap().check, Check::None);
    assert!(of("s9").unwrap_err().contains("has no server s9"));
    assert_eq!(questions("b"), ["show servers state b", "show stat b 4 -1"]);
    assert_eq!(order("b", "s1", "drain"), "set server b/s1 state drain");
}

#[test]
fn maintenance_weight_and_a_check_on_its_way_are_seen() {
    let (state, stat) = recorded();
    for bits in ["1", "2", "4", "32", "9"] {
        let forced = state.replace("127.0.0.1 0 8 1", &format!("127.0.0.1 0 {bits} 1"));
        assert_eq!(view("b", "s1", &forced, &stat).unwrap().place, Place::Maintenance, "{bits}");
    }
    let others = |was: &str, now: &str| {
        let changed = stat.replace(was, now);
        assert_ne!(changed, stat, "{was} is there");
        view("b", "s1", &state, &changed).unwrap().others_up
    };
    assert_eq!(others("UP,1,1,0", "UP 1/2,1,1,0"), 2, "on its way down it still serves");
    assert_eq!(others("UP,1,1,0", "DOWN 1/2,1,1,0"), 1, "on its way up it does not");
    assert_eq!(others("UP,1,1,0", "UP,0,1,0"), 1, "without weight it gets nothing");
    assert_eq!(others("UP,1,1,0", "UP,1,0,1"), 1, "a backup serves only when all others are gone");
    let once = stat.replace("Layer7 check passed,,2,2,3", "Layer7 check passed,,2,2,2");
    assert_eq!(
        view("b", "s2", &state, &once).unwrap().check,
        Check::Failing("L7OK".into()),
        "once is not enough"
    );
}

#[test]
fn an_answer_that_makes_no_sense_is_an_error() {
    let (state, stat) = recorded();
    let cut = |text: &str, at: usize| text.chars().take(at).collect::<String>();
    let bad: Vec<(String, String)> = vec![
        (String::new(), stat.clone()),
        (state.clone(), String::new()),
        ("\n\n".into(), stat.clone()),
        ("Can't find backend.\n\n".into(), stat.clone()),
        (state.clone(), "No such proxy.\n\n".into()),
        ("Permission denied\n\n".into(), "Permission denied\n\n".into()),
        ("Unknown command: 'show'.\n\n".into(), stat.clone()),
        (cut(&state, state.len() - 1), stat.clone()),
        (state.clone(), cut(&stat, stat.len() - 1)),
        (state.clone(), cut(&stat, stat.len() / 2)),
        (format!("{}\n", cut(&state, state.len() - 60)), stat.clone()),
        (state.replace("srv_admin_state", "renamed"), stat.clone()),
        (state.replace(" 0 8 1", " 0 x 1"), stat.clone()),
        (state.clone(), stat.replace("scur", "renamed")),
        (state.clone(), stat.replace("b,s1,0,0,2,", "b,s1,0,0,-2,")),
        (state.clone(), stat.replace("b,s1,0,0,2,", "b,s1,0,0,99999999999999999999999,")),
        (state.clone(), stat.replace("b,s2,", "b,\"s2,")),
        (state.replace("3 b 3 s3 127", "3 b 3 s4 127"), stat.clone()),
        (state.replace("1\n# be_id", "2\n# be_id"), stat.clone()),
    ];
    for (number, (state, stat)) in bad.iter().enumerate() {
        let error = view("b", "s1", state, stat).expect_err(&format!("{number}: {state} {stat}"));
        assert!(!error.is_empty() && error.len() < 400 && !error.contains('\n'), "{number}: {error:?}");
    }
    assert_eq!(obeyed("\n"), Ok(()));
    for said in ["No such server.\n\n", "Permission denied\n\n", "\u{1b}[2Jboo\n"] {
        let error = obeyed(said).unwrap_err();
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
}

#[tokio::test]
async fn a_slow_and_a_huge_answer_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        // Held and never answered, then more than anybody reads.
        let (silent, _) = listener.accept().await.unwrap();
        let (mut loud, _) = listener.accept().await.unwrap();
        let line = vec![b'x'; 64 * 1024];
        while loud.write_all(&line).await.is_ok() {}
        drop(silent);
    });
    let address = AdminAddress::Unix(path.clone());
    let slow = admin::ask(&address, "show info", Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(slow.kind(), std::io::ErrorKind::TimedOut);
    let huge = admin::ask(&address, "show info", Duration::from_secs(30)).await.unwrap_err();
    assert_eq!(huge.kind(), std::io::ErrorKind::FileTooLarge, "{huge}: {ANSWER_MAX_BYTES}");
    server.await.unwrap();
    assert!(admin::ask(&address, "show info", Duration::from_secs(1)).await.is_err(), "nobody listens");
}

pub(super) fn traffic(min_up: u32) -> TrafficSpec {
    TrafficSpec {
        adapter: BalancerName::new("edge").unwrap(),
        backend: "b".into(),
        server: "s1".into(),
        drain_timeout: DurationMs(2_000),
        on_timeout: OnTimeout::Fail,
        min_up,
    }
}

#[test]
fn a_drain_is_refused_before_it_begins() {
    let view =
        |place, others_up, connections, check| View { place, serves: true, check, others_up, connections };
    let table = [
        (view(Place::In, 2, Some(9), Check::Passing), 2, false, None),
        (view(Place::In, 1, Some(9), Check::Passing), 2, false, Some(Reason::PoolMinimum)),
        // It is out already: it costs nothing.
        (view(Place::Out, 1, Some(9), Check::Passing), 2, false, None),
        (view(Place::Maintenance, 5, Some(0), Check::Passing), 1, false, Some(Reason::WrongState)),
        (view(Place::In, 5, None, Check::Passing), 1, false, Some(Reason::BalancerUnreadable)),
        (view(Place::In, 5, Some(0), Check::None), 1, false, Some(Reason::BalancerUnreadable)),
        (view(Place::In, 5, Some(0), Check::None), 1, true, None),
    ];
    for (view, min_up, hook, want) in table {
        let got = may_drain(&view, &traffic(min_up), hook, true).err().map(|(reason, _)| reason);
        assert_eq!(got, want, "{view:?}, at least {min_up}");
    }
    let unmeasured = view(Place::In, 5, None, Check::Passing);
    assert!(may_drain(&unmeasured, &traffic(1), false, false).is_ok(), "PROCEED says to go on without");
    assert!(enough(&unmeasured, &traffic(6)).is_err());
}

#[test]
fn health_is_shown_or_it_is_not() {
    assert!(fit(&Check::Passing, None).is_ok());
    assert!(fit(&Check::None, None).is_err(), "what is not known is not healthy");
    assert!(fit(&Check::None, Some(Ok(()))).is_ok());
    assert!(fit(&Check::Passing, Some(Err("503".into()))).is_err());
    assert!(fit(&Check::Failing("L7STS".into()), Some(Ok(()))).is_err());
}
