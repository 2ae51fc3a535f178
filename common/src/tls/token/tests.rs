use proptest::prelude::*;

use super::*;

fn token(secret: [u8; 32], addresses: &[&str]) -> JoinToken {
    JoinToken {
        purpose: Role::Agent,
        cluster: ClusterId::new("c-1").unwrap(),
        id: TokenId::new("t-1").unwrap(),
        ca: [7; 32],
        secret: Secret::from_bytes(secret),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

#[test]
fn a_token_survives_printing_and_copying() {
    let made = token([9; 32], &["coord1.example:7480", "[::1]:7480", "10.0.0.1:1"]);
    let text = made.encode().unwrap();
    let read: JoinToken = format!("  {}\n", text.as_str()).parse().unwrap();
    assert_eq!(
        (read.purpose, &read.cluster, &read.id, read.ca),
        (Role::Agent, &made.cluster, &made.id, [7; 32])
    );
    assert_eq!(read.addresses, made.addresses);
    assert!(constant_time_eq(read.secret.expose(), &[9; 32]));
    assert_eq!(read.secret.hash(), secret_hash(&[9; 32]));
}

#[test]
fn the_secret_is_in_no_debug_text() {
    let made = token([0xab; 32], &[]);
    let shown = format!("{made:?}");
    assert!(shown.contains("hidden") && !shown.contains("171") && !shown.contains("abab"), "{shown}");
}

#[test]
fn what_is_no_token_is_told_apart() {
    let parse = |text: &str| text.parse::<JoinToken>().map(|_| ()).unwrap_err();
    assert_eq!(parse(""), TokenError::NotAToken);
    assert_eq!(parse("quorate-join-v2.AAAA"), TokenError::NotAToken);
    assert_eq!(parse("quorate-join-v1."), TokenError::Damaged);
    assert_eq!(parse("quorate-join-v1.AA"), TokenError::Damaged);
    assert_eq!(parse("quorate-join-v1.====\u{e9}"), TokenError::Damaged);
    assert_eq!(parse(&"x".repeat(1 << 20)), TokenError::TooLong);
    assert_eq!(parse(&format!("quorate-join-v1.{}", "A".repeat(TOKEN_MAX_BYTES - 16))), TokenError::Damaged);
    let many: Vec<String> = (0..17).map(|n| format!("h{n}:1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(token([0; 32], &many).encode().map(|_| ()), Err(TokenError::TooLong));
}

proptest! {
    #[test]
    fn any_text_gives_an_error_and_no_panic(text in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(text.parse::<JoinToken>().is_err());
        let framed = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
        prop_assert!(framed.parse::<JoinToken>().is_err());
        // With a right checksum the reader itself meets the bytes.
        let mut summed = bytes.clone();
        summed.extend_from_slice(&secret_hash(&bytes)[..CHECKSUM_BYTES]);
        if let Ok(read) = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&summed)).parse::<JoinToken>() {
            prop_assert!(read.addresses.len() <= ADDRESSES_MAX);
        }
    }

    #[test]
    fn one_changed_bit_is_noticed(secret in any::<[u8; 32]>(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let text = token(secret, &["h:1"]).encode().unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(&text[PREFIX.len()..]).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let damaged = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
        prop_assert_eq!(damaged.parse::<JoinToken>().map(|_| ()).unwrap_err(), TokenError::Damaged);
    }
}
