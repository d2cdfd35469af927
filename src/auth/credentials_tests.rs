//! Files that are refused, with place and reason.

use super::credentials::Access;

const GOOD: &str = r#"{"name":"a","keys":[{"id":"AKIA1","secret":"0123456789abcdef"}]}"#;

#[track_caller]
fn refused(text: &str, why: &str) {
    assert_eq!(Access::parse(text).err().as_deref(), Some(why), "{text}");
}

fn user(rest: &str) -> String {
    format!("{{\"users\":[{GOOD},{{\"name\":\"b\",{rest}}}]}}")
}

#[test]
fn a_good_file_is_taken() {
    let text = format!("{{\"users\":[{GOOD}],\"observers\":[\"watcher-0123456789\"]}}");
    let access = Access::parse(&text).expect("a good file");
    assert_eq!((access.users().len(), access.keys()), (1, 1));
    assert!(access.observes(b"watcher-0123456789") && !access.observes(b"watcher-012345678") && !access.observes(b""));
    assert!(Access::parse("{}").is_ok());
    let key = |n: u8, active| format!(r#"{{"id":"AKIB{n}","secret":"0123456789abcdef","active":{active}}}"#);
    let three = user(&format!("\"keys\":[{},{},{}]", key(1, true), key(2, true), key(3, false)));
    assert_eq!(Access::parse(&three).expect("two are active").keys(), 4);
}

#[test]
fn what_is_wrong_is_named_and_no_secret_shown() {
    refused("[]", "the file: must be an object");
    refused("{\"user\":[]}", "user is not known; known are users, observers");
    refused("{\"users\":{}}", "users: must be a list");
    refused("{\"users\":[{}]}", "users[0]: has no name");
    refused("{\"users\":[{\"name\":\"a b\"}]}", "users[0].name: must be 1 to 64 letters, digits and +=,.@_-");
    refused(&format!("{{\"users\":[{GOOD},{GOOD}]}}"), "users[1].name: a is there twice");
    refused(&user("\"groups\":[]"), "users[1]: groups is not known; known are name, keys, policies");
    refused(&user("\"keys\":[{\"id\":\"AKIA2\"}]"), "users[1].keys[0]: has no secret");
    refused(&user("\"keys\":[{\"secret\":\"0123456789abcdef\"}]"), "users[1].keys[0]: has no id");
    refused(
        &user("\"keys\":[{\"id\":\"AKIA2\",\"secret\":\"short\"}]"),
        "users[1].keys[0].secret: must be 16 to 256 printable characters of ASCII without blanks",
    );
    refused(
        &user("\"keys\":[{\"id\":\"A/K/I/A\",\"secret\":\"0123456789abcdef\"}]"),
        "users[1].keys[0].id: must be 4 to 128 letters, digits and underscores",
    );
    refused(&user("\"keys\":[{\"id\":\"AKIA1\",\"secret\":\"0123456789abcdef\"}]"), "the key id AKIA1 is there twice");
    refused(
        &user("\"keys\":[{\"id\":\"AKIA2\",\"secret\":\"0123456789abcdef\",\"Active\":true}]"),
        "users[1].keys[0]: Active is not known; known are id, secret, active, session_token, expires",
    );
    refused(
        &user("\"keys\":[{\"id\":\"AKIA2\",\"secret\":\"0123456789abcdef\",\"expires\":\"20260131T000000Z\"}]"),
        "users[1].keys[0].expires: only a key with a session_token expires; others are made inactive",
    );
    refused(&user("\"policies\":[{}]"), "users[1].policies[0]: has no Statement");
    refused(
        "{\"observers\":[\"short\"]}",
        "observers[0]: must be 16 to 256 printable characters of ASCII without blanks",
    );
    let key = |n: u8| format!(r#"{{"id":"AKIB{n}","secret":"0123456789abcdef"}}"#);
    refused(&user(&format!("\"keys\":[{},{},{}]", key(1), key(2), key(3))), "users[1].keys: more than 2 are active");
    let told = Access::parse("{\"users\":\n[}").expect_err("no JSON");
    assert!(told.contains("line 2"), "{told}");
}

#[test]
fn users_are_followed_by_their_name() {
    let text =
        |names: [&str; 2]| format!("{{\"users\":[{{\"name\":\"{}\"}},{{\"name\":\"{}\"}}]}}", names[0], names[1]);
    let former = Access::parse(&text(["a", "b"])).expect("a good file");
    let next = Access::parse(&text(["c", "a"])).expect("a good file");
    assert_eq!((next.successor(&former, 0), next.successor(&former, 1)), (Some(1), None));
}
