//! nginx's file, and the kernel's table of connections.

use super::super::nginx::{marked, own, servers};
use super::super::sockets::connections_to;

const FILE: &str = "# by hand, do not lose\nupstream app {\n    least_conn;\n\tserver 10.0.0.1:80   weight=5\tmax_fails=3 ; # one\r\n    server 10.0.0.2:80;\n  # server 10.0.0.9:80;\n    server 10.0.0.3:80 backup;\n    keepalive 32;\n}\n\nupstream other {\n    server 10.0.0.1:80 down;\n}";

#[test]
fn a_line_is_marked_and_nothing_else_changes_and_the_way_back_is_exact() {
    for server in ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"] {
        let out = marked(FILE, "app", server, true).unwrap().expect("it was in");
        assert_eq!(out.len(), FILE.len() + " down".len());
        let differs: Vec<_> = FILE.lines().zip(out.lines()).filter(|(a, b)| a != b).collect();
        assert_eq!(differs.len(), 1, "{differs:?}");
        assert!(differs[0].1.contains(server) && differs[0].1.contains(" down"), "{differs:?}");
        assert_eq!(marked(&out, "app", server, true), Ok(None), "again");
        assert_eq!(marked(&out, "app", server, false).unwrap().expect("it was out"), FILE);
    }
    assert_eq!(marked(FILE, "app", "10.0.0.1:80", false), Ok(None));
    let by_hand = "server a:1 down weight=2;\n";
    assert_eq!(marked(by_hand, "any", "a:1", false).unwrap().unwrap(), "server a:1 weight=2;\n");
}

#[test]
fn only_the_pool_counts() {
    let lines = servers(FILE, "app").unwrap();
    assert_eq!(
        lines.iter().map(|l| l.address.as_str()).collect::<Vec<_>>(),
        ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
    );
    assert!(lines.iter().all(|line| !line.down) && lines[2].backup);
    assert!(own(&servers(FILE, "other").unwrap(), "10.0.0.1:80").unwrap().down);
    let bare = "server a:1;\nserver b:2 down;\n";
    assert_eq!(servers(bare, "any name").unwrap().len(), 2, "a file that is included in a block");
}

#[test]
fn a_file_that_is_not_understood_is_not_touched() {
    for (text, server) in [
        (FILE, "10.0.0.9:80"),
        ("upstream app { server 10.0.0.1:80; }\n", "10.0.0.1:80"),
        ("upstream app {\nserver 10.0.0.1:80; server 10.0.0.2:80;\n}\n", "10.0.0.1:80"),
        ("upstream app {\nserver 10.0.0.1:80\n  weight=2;\n}\n", "10.0.0.1:80"),
        ("upstream app {\nserver 10.0.0.1:80;\nserver 10.0.0.1:80;\n}\n", "10.0.0.1:80"),
        ("upstream app {\nserver;\n}\n", "10.0.0.1:80"),
        ("upstream else {\nserver 10.0.0.1:80;\n}\n", "10.0.0.1:80"),
        ("", "10.0.0.1:80"),
    ] {
        assert!(marked(text, "app", server, true).is_err(), "{text:?}");
    }
}

#[test]
fn connections_are_counted_by_the_other_end() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000\n\
        1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000\n\
        2: 0100007F:C351 0100007F:1F90 08 00000000:00000000 00:00000000\n\
        3: 0100007F:C352 0100007F:1F90 06 00000000:00000000 00:00000000\n\
        4: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000\n\
        5: bad line\n";
    assert_eq!(connections_to(table, "127.0.0.1:8080".parse().unwrap()), 2);
    assert_eq!(connections_to(table, "127.0.0.1:8081".parse().unwrap()), 0);
    let six = "head\n0: 0000000000000000FFFF00000100007F:C350 0000000000000000FFFF00000100007F:1F90 01 0\n\
        1: 00000000000000000000000001000000:C350 00000000000000000000000001000000:0050 01 0\n";
    assert_eq!(connections_to(six, "127.0.0.1:8080".parse().unwrap()), 1, "IPv4 in IPv6");
    assert_eq!(connections_to(six, "[::1]:80".parse().unwrap()), 1);
}
