//! Policies: one table of questions, one of documents that are refused.

use super::ask::{Ask, Tags};
use super::policy::{Policy, Verdict, judge};
use super::policy_text;
use super::strict_json::Json;
use std::net::IpAddr;

const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/flights";
const USER: &str = "arn:aws:iam::000000000000:user/app";

fn identity(text: &str) -> Policy {
    let json = Json::parse(text).expect("JSON");
    policy_text::identity(&json).unwrap_or_else(|why| panic!("{why}: {text}"))
}

fn statement(rest: &str) -> String {
    format!("{{\"Version\":\"2012-10-17\",\"Statement\":{{{rest}}}}}")
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// The question of most tests: `app` puts a record into `flights`.
fn ask() -> Ask<'static> {
    Ask {
        action: "kinesis:PutRecord",
        resource: ARN,
        username: "app",
        principal: USER,
        account: "000000000000",
        source_ip: Some(IpAddr::from([10, 1, 2, 3])),
        secure: false,
        now: 1_769_817_600,
        request_tags: None,
        resource_tags: None,
    }
}

#[test]
fn actions_and_resources() {
    for (rest, allowed) in [
        (r#""Effect":"Allow","Action":"*","Resource":"*""#, true),
        (r#""Effect":"Allow","Action":"KINESIS:putrecord","Resource":"*""#, true),
        (r#""Effect":"Allow","Action":["kinesis:GetRecords","kinesis:Put*"],"Resource":"*""#, true),
        (r#""Effect":"Allow","Action":"kinesis:PutRecord?","Resource":"*""#, false),
        (r#""Effect":"Allow","Action":"kinesis:P?tR*d","Resource":"*""#, true),
        (r#""Effect":"Allow","Action":"dynamodb:*","Resource":"*""#, false),
        (r#""Effect":"Allow","NotAction":"kinesis:Get*","Resource":"*""#, true),
        (r#""Effect":"Allow","NotAction":"kinesis:Put*","Resource":"*""#, false),
        (r#""Effect":"Allow","Action":"*","Resource":"arn:aws:kinesis:us-east-1:000000000000:stream/flights""#, true),
        (r#""Effect":"Allow","Action":"*","Resource":"arn:aws:kinesis:us-east-1:000000000000:stream/Flights""#, false),
        (r#""Effect":"Allow","Action":"*","Resource":"arn:aws:kinesis:*:*:stream/fl*""#, true),
        (r#""Effect":"Allow","Action":"*","Resource":"arn:aws:kinesis:*:*:stream/fl""#, false),
        (r#""Effect":"Allow","Action":"*","NotResource":"arn:aws:kinesis:*:*:stream/fl*""#, false),
        (r#""Effect":"Allow","Action":"*","Resource":"arn:aws:kinesis:*:*:stream/${aws:username}-*""#, false),
        (r#""Effect":"Deny","Action":"*","Resource":"*""#, false),
    ] {
        let verdict = judge(&[identity(&statement(rest))], None, &ask());
        assert_eq!(verdict == Verdict::Allowed, allowed, "{rest}");
    }
}

#[test]
fn variables_are_what_the_request_says() {
    let rest = r#""Effect":"Allow","Action":"*","Resource":"arn:aws:kinesis:*:*:stream/${aws:username}-*""#;
    let mine = Ask { resource: "arn:aws:kinesis:us-east-1:000000000000:stream/app-1", ..ask() };
    assert_eq!(judge(&[identity(&statement(rest))], None, &mine), Verdict::Allowed);
    let old = statement(rest).replace("2012-10-17", "2008-10-17");
    assert_eq!(judge(&[identity(&old)], None, &mine), Verdict::NotAllowed, "the old language has none");
    let literal = r#""Effect":"Allow","Action":"*","Resource":"arn:aws:kinesis:*:*:stream/${*}""#;
    let star = Ask { resource: "arn:aws:kinesis:us-east-1:000000000000:stream/*", ..ask() };
    assert_eq!(judge(&[identity(&statement(literal))], None, &star), Verdict::Allowed);
    assert_eq!(judge(&[identity(&statement(literal))], None, &mine), Verdict::NotAllowed);
}

#[test]
fn a_denial_wins_and_one_that_allows_is_enough() {
    let allow = identity(&statement(r#""Effect":"Allow","Action":"*","Resource":"*""#));
    let deny = identity(&statement(r#""Effect":"Deny","Action":"kinesis:Put*","Resource":"*""#));
    let resource = |rest: &str| policy_text::of_resource(&statement(rest)).expect("a good policy");
    let grant =
        |who: &str| resource(&format!(r#""Effect":"Allow","Principal":{who},"Action":"kinesis:*","Resource":"{ARN}""#));
    let deny_all = resource(r#""Effect":"Deny","Principal":{"AWS":"000000000000"},"Action":"*","Resource":"*""#);
    let user = grant(&format!("{{\"AWS\":[\"{USER}\"]}}"));
    for (identity, resource, verdict) in [
        (vec![], None, Verdict::NotAllowed),
        (vec![deny.clone(), allow.clone()], None, Verdict::DeniedByIdentity),
        (vec![allow.clone()], Some(&deny_all), Verdict::DeniedByResource),
        (vec![], Some(&user), Verdict::Allowed),
        (vec![deny], Some(&user), Verdict::DeniedByIdentity),
        (vec![], Some(&grant("\"*\"")), Verdict::Allowed),
        (vec![], Some(&grant("{\"AWS\":\"*\"}")), Verdict::Allowed),
        // As in AWS: the account decides for itself whom of its users it lets.
        (vec![], Some(&grant("{\"AWS\":\"arn:aws:iam::000000000000:root\"}")), Verdict::NotAllowed),
        (vec![], Some(&grant("{\"AWS\":\"arn:aws:iam::000000000000:user/other\"}")), Verdict::NotAllowed),
        (vec![], Some(&grant("{\"Service\":\"firehose.amazonaws.com\"}")), Verdict::NotAllowed),
    ] {
        assert_eq!(judge(&identity, resource, &ask()), verdict, "{identity:?} {resource:?}");
    }
}

/// Whether a statement with this condition applies.
#[track_caller]
fn holds(condition: &str, of: &Ask<'_>, expected: bool) {
    let rest = format!(r#""Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}"#);
    let verdict = judge(&[identity(&statement(&rest))], None, of);
    assert_eq!(verdict == Verdict::Allowed, expected, "{condition}");
}

#[test]
fn conditions() {
    let (request, resource) = (tags(&[("team", "blue"), ("cost", "7")]), tags(&[("team", "red")]));
    let tagged = Ask { request_tags: Some(&request), resource_tags: Some(&resource), ..ask() };
    for (condition, expected) in [
        (r#"{"StringEquals":{"aws:username":"app"}}"#, true),
        (r#"{"stringequals":{"AWS:USERNAME":["x","app"]}}"#, true),
        (r#"{"StringEquals":{"aws:username":"App"}}"#, false),
        (r#"{"StringEqualsIgnoreCase":{"aws:username":"App"}}"#, true),
        (r#"{"StringNotEquals":{"aws:username":["x","app"]}}"#, false),
        (r#"{"StringNotEqualsIgnoreCase":{"aws:username":"APP"}}"#, false),
        (r#"{"StringLike":{"aws:username":"a*"}}"#, true),
        (r#"{"StringEquals":{"aws:username":"a*"}}"#, false),
        (r#"{"StringNotLike":{"aws:username":"a*"}}"#, false),
        (r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/a*"}}"#, true),
        (r#"{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam:*:user/app:*"}}"#, false),
        (r#"{"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/b*"}}"#, true),
        (r#"{"Bool":{"aws:SecureTransport":"false"}}"#, true),
        (r#"{"Bool":{"aws:SecureTransport":true}}"#, false),
        (r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#, true),
        (r#"{"IpAddress":{"aws:SourceIp":["10.1.2.4","::/0"]}}"#, false),
        (r#"{"NotIpAddress":{"aws:SourceIp":"10.1.2.3/32"}}"#, false),
        (r#"{"DateLessThan":{"aws:CurrentTime":"2026-01-31T00:00:01Z"}}"#, true),
        (r#"{"DateGreaterThan":{"aws:CurrentTime":"2026-01-31"}}"#, false),
        (r#"{"DateGreaterThanEquals":{"aws:CurrentTime":"2026-01-31"}}"#, true),
        (r#"{"DateEquals":{"aws:EpochTime":"20260131T000000Z"}}"#, true),
        (r#"{"NumericLessThan":{"aws:EpochTime":1769817601}}"#, true),
        (r#"{"NumericLessThanEquals":{"aws:RequestTag/cost":"7.0"}}"#, true),
        (r#"{"NumericNotEquals":{"aws:RequestTag/cost":7}}"#, false),
        (r#"{"NumericGreaterThan":{"aws:RequestTag/team":0}}"#, false),
        (r#"{"StringEquals":{"aws:RequestTag/team":"blue","aws:ResourceTag/team":"red"}}"#, true),
        (r#"{"StringEquals":{"aws:RequestTag/team":"blue"},"StringLike":{"aws:ResourceTag/team":"b*"}}"#, false),
        (r#"{"StringEquals":{"aws:RequestTag/none":"x"}}"#, false),
        (r#"{"StringNotEquals":{"aws:RequestTag/none":"x"}}"#, true),
        (r#"{"StringEqualsIfExists":{"aws:RequestTag/none":"x"}}"#, true),
        (r#"{"StringEqualsIfExists":{"aws:RequestTag/team":"x"}}"#, false),
        (r#"{"Null":{"aws:RequestTag/none":"true"}}"#, true),
        (r#"{"Null":{"aws:RequestTag/team":"true"}}"#, false),
        (r#"{"Null":{"aws:RequestTag/team":"false"}}"#, true),
        (r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["team","cost","other"]}}"#, true),
        (r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}"#, false),
        (r#"{"ForAnyValue:StringEquals":{"aws:TagKeys":["team"]}}"#, true),
        (r#"{"ForAnyValue:StringLike":{"aws:TagKeys":["x*"]}}"#, false),
        (r#"{"StringEquals":{"aws:ResourceTag/team":"${aws:RequestTag/team}"}}"#, false),
    ] {
        holds(condition, &tagged, expected);
    }
    let (nothing, nowhere) = (ask(), Ask { source_ip: None, ..ask() });
    holds(r#"{"ForAllValues:StringEquals":{"aws:TagKeys":"x"}}"#, &nothing, true);
    holds(r#"{"ForAnyValue:StringNotEquals":{"aws:TagKeys":"x"}}"#, &nothing, false);
    holds(r#"{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}"#, &nowhere, false);
    let six = Ask { source_ip: "2001:db8::1".parse().ok(), ..ask() };
    holds(r#"{"IpAddress":{"aws:SourceIp":"2001:db8::/32"}}"#, &six, true);
    let mapped = Ask { source_ip: "::ffff:10.1.2.3".parse().ok(), ..ask() };
    holds(r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#, &mapped, true);
}

#[test]
fn a_pattern_takes_time_in_proportion() {
    let pattern = format!("arn:aws:kinesis:*:*:stream/{}b", "a*".repeat(100));
    let rest = format!(r#""Effect":"Allow","Action":"*","Resource":"{pattern}""#);
    let resource = format!("arn:aws:kinesis:us-east-1:000000000000:stream/{}", "a".repeat(128));
    let of = Ask { resource: &resource, ..ask() };
    assert_eq!(judge(&[identity(&statement(&rest))], None, &of), Verdict::NotAllowed);
}

#[test]
fn documents_that_are_not_understood_are_refused() {
    let told = |text: &str, of_resource: bool| match of_resource {
        true => policy_text::of_resource(text).expect_err("refused"),
        false => policy_text::identity(&Json::parse(text).expect("JSON")).expect_err("refused"),
    };
    for (text, why) in [
        ("[]".to_owned(), "a policy must be an object"),
        ("{}".to_owned(), "has no Statement"),
        (r#"{"Statement":[]}"#.to_owned(), "has no Statement"),
        (r#"{"Version":"2020-01-01","Statement":[]}"#.to_owned(), "Version: must be 2012-10-17 or 2008-10-17"),
        (r#"{"Statements":[]}"#.to_owned(), "Statements is not known; known are Version, Id, Statement"),
        (statement(r#""Action":"*","Resource":"*""#), "Statement[0]: has no Effect"),
        (statement(r#""Effect":"allow","Action":"*","Resource":"*""#), "Statement[0].Effect: must be Allow or Deny"),
        (statement(r#""Effect":"Allow","Resource":"*""#), "Statement[0]: has no Action"),
        (statement(r#""Effect":"Allow","Action":"*""#), "Statement[0]: has no Resource"),
        (
            statement(r#""Effect":"Allow","Action":"*","NotAction":"*","Resource":"*""#),
            "Statement[0].NotAction: the other one is there too",
        ),
        (
            statement(r#""Effect":"Allow","Action":"PutRecord","Resource":"*""#),
            "Statement[0].Action: PutRecord is not an action, as in kinesis:PutRecord or kinesis:Get*",
        ),
        (
            statement(r#""Effect":"Allow","Action":"*","Resource":"flights""#),
            "Statement[0].Resource: flights is not an ARN or *",
        ),
        (
            statement(r#""Effect":"Allow","Action":[],"Resource":"*""#),
            "Statement[0].Action: must have 1 to 1024 values",
        ),
        (
            statement(r#""Effect":"Allow","Principal":"*","Action":"*","Resource":"*""#),
            "Statement[0].Principal: a policy of a user is about that user",
        ),
        (
            statement(r#""Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringIs":{"aws:username":"a"}}"#),
            "Statement[0].Condition.StringIs.aws:username: the operator StringIs is not known here",
        ),
        (
            statement(
                r#""Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":true}}"#,
            ),
            "Statement[0].Condition.Bool.aws:MultiFactorAuthPresent: the key aws:MultiFactorAuthPresent is not known here",
        ),
        (
            statement(
                r#""Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}"#,
            ),
            "Statement[0].Condition.IpAddress.aws:SourceIp: 10.0.0.0/33 is not an address, as in 10.0.0.0/8",
        ),
        (
            statement(r#""Effect":"Allow","Action":"*","Resource":"arn:aws:kinesis:*:*:stream/${aws:userid}""#),
            "Statement[0].Resource: the variable ${aws:userid} is not known",
        ),
        (statement(r#""Effect":"Allow","Action":"*","Resource":"*","Extra":1"#), "Statement[0].Extra: is not known"),
    ] {
        assert_eq!(told(&text, false), why, "{text}");
    }
    assert_eq!(
        told(&statement(r#""Effect":"Allow","Action":"*","Resource":"*""#), true),
        "Statement[0]: has no Principal"
    );
    let long = format!("{{\"Id\":\"{}\"}}", "x".repeat(policy_text::RESOURCE_POLICY_MAX));
    assert!(told(&long, true).contains("20480 are the most"));
    let wild = statement(
        r#""Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/*"},"Action":"*","Resource":"*""#,
    );
    assert!(told(&wild, true).contains("is not *, an account"));
}
