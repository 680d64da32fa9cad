//! Tests of policies: what is refused at load, and what is decided.

use std::net::IpAddr;
use std::time::Instant;

use cedar_policy::{Entities, Request, Schema};
use proptest::prelude::*;
use time::macros::datetime;

use crate::custodian::audit::Action;
use crate::custodian::identity::SpiffeId;
use crate::custodian::kek::Labels;
use crate::custody::context::BranchContext;
use crate::custody::reason::Reason;
use crate::names::{BranchId, KekName, LogicalBucket, Principal, Purpose, WriterDomain};

use super::*;

const NOON: OffsetDateTime = datetime!(2026-03-02 12:00 UTC);

fn who(id: &str) -> Requester {
    Requester {
        id: SpiffeId::parse(id).expect("legal"),
        certificate_sha256: [1; 32],
        key_sha256: [4; 32],
        source: IpAddr::from([192, 0, 2, 7]),
        reason: Reason::Unspecified,
        behalf: None,
        request_id: [2; 16],
        for_request: None,
    }
}

fn us_proxy() -> Requester {
    who("spiffe://example.org/region/us/proxy/p1")
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).expect("legal")
}

fn of_kek(action: Action) -> Use {
    let records = KekName::new("records").expect("legal");
    Use::of_kek(action, &records, None, &labels(&[("jurisdiction", "us"), ("team", "x")]))
}

fn of_branch(action: Action, bucket: &str) -> Use {
    let branch = BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new(bucket).expect("legal"),
        writer: WriterDomain::new("proxy/us").expect("legal"),
        id: BranchId::from_bytes([3; 16]),
    };
    Use { branch: Some(branch), ..of_kek(action) }
}

fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn problems(text: &str) -> Vec<String> {
    let error = Policy::parse(text).expect_err("it is not right");
    error.problems.iter().map(Problem::to_string).collect()
}

#[track_caller]
fn assert_decides(policy: &Policy, who: &Requester, what: &Use, expected: Decision, rules: &[&str]) {
    let verdict = policy.decide(who, what, None, NOON);
    assert_eq!((verdict.decision, verdict.denied_by), (expected, None));
    assert_eq!(verdict.rules, rules);
    assert_eq!(verdict.policy, policy.hash());
}

use Decision::{Allow, Deny};

#[test]
fn what_no_rule_permits_is_denied() {
    let only_reading = policy("permit(principal, action == Claviger::Action::\"read\", resource);");
    assert_decides(&only_reading, &us_proxy(), &of_kek(Action::Read), Allow, &["policy0"]);
    for action in Action::ALL.iter().filter(|action| **action != Action::Read) {
        let of_custodian = only_reading.decide(&us_proxy(), &Use::of_custodian(*action), Some("g-1"), NOON);
        let of_kek = only_reading.decide(&us_proxy(), &of_kek(*action), Some("g-1"), NOON);
        assert_eq!((of_custodian.decision, of_kek.decision), (Deny, Deny), "{action:?}");
        assert_eq!((of_custodian.grant, of_kek.grant), (None, None), "{action:?}");
    }
}

#[test]
fn a_forbid_beats_every_permit() {
    let policy = policy(
        r#"
        permit(principal, action, resource);
        @id("nobody-else") forbid(principal, action == Claviger::Action::"unwrap", resource)
            when { resource has jurisdiction && resource.jurisdiction == "us" } unless { principal.region == "us" };
        @id("never-this-one")
        forbid(principal == Claviger::Principal::"spiffe://example.org/region/sg/proxy/p1", action, resource);
        "#,
    );
    let singapore = who("spiffe://example.org/region/sg/proxy/p1");
    assert_decides(&policy, &us_proxy(), &of_kek(Action::Unwrap), Allow, &["policy0"]);
    assert_decides(&policy, &singapore, &of_kek(Action::Unwrap), Deny, &["never-this-one", "nobody-else"]);
    assert_decides(&policy, &singapore, &of_kek(Action::Generate), Deny, &["never-this-one"]);
    assert_decides(
        &policy,
        &who("spiffe://example.org/region/sg/proxy/p2"),
        &of_kek(Action::Generate),
        Allow,
        &["policy0"],
    );
}

#[test]
fn groups_hold_their_actions() {
    let policy = policy(
        r#"
        @id("use") permit(principal, action in Claviger::Action::"use", resource);
        @id("change") permit(principal, action in Claviger::Action::"change", resource);
        @id("look") permit(principal, action in Claviger::Action::"look", resource);
        @id("approval") permit(principal, action in Claviger::Action::"approval", resource);
        "#,
    );
    let rules = |what: Use| policy.decide(&us_proxy(), &what, None, NOON).rules.join(" ");
    for action in [Action::Generate, Action::Encrypt, Action::Unwrap, Action::Rewrap] {
        assert_eq!(rules(of_kek(action)), "use");
    }
    for action in [Action::Create, Action::Trim, Action::Delete, Action::Disable, Action::Enable] {
        assert_eq!(rules(of_kek(action)), "change");
    }
    assert_eq!(rules(of_kek(Action::Read)), "look");
    assert_eq!(rules(Use::of_custodian(Action::ReadAudit)), "look");
    assert_eq!(rules(Use::of_custodian(Action::Propose)), "approval");
    assert_eq!(rules(of_kek(Action::Propose)), "approval");
    assert_eq!(rules(Use::of_custodian(Action::Seal)), "");
}

#[test]
fn the_schema_knows_every_action_reason_and_attribute() {
    let (schema, warnings) = Schema::from_cedarschema_str(SCHEMA).expect("the schema is right");
    assert_eq!(warnings.map(|warning| warning.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
    for action in Action::ALL {
        let applies = [true, false].map(|of_key| VOCABULARY.applies(*action, of_key));
        assert_ne!(applies, [false, false], "{action:?}");
        for reason in Reason::ALL {
            let mut who = us_proxy();
            (who.reason, who.behalf) = (reason, Some(Principal::new("app").expect("legal")));
            let uses = [of_branch(*action, "records"), Use::of_custodian(*action)];
            for (what, applies) in uses.iter().zip(applies) {
                let question = VOCABULARY.question(&who, what, true, NOON);
                assert_eq!(question.is_ok(), applies, "{action:?}");
                let Ok((_, entities)): Result<(Request, _), _> = question else { continue };
                Entities::from_entities(entities, Some(&schema)).expect("what is asked about is as the schema says");
            }
        }
    }
}

#[test]
fn a_grant_opens_only_what_asks_for_it() {
    let policy = policy(
        r#"@id("with-grant") permit(principal, action == Claviger::Action::"unwrap", resource) when { context.granted };"#,
    );
    let with = policy.decide(&us_proxy(), &of_kek(Action::Unwrap), Some("g-0011223344556677"), NOON);
    assert_eq!((with.decision, with.grant.as_deref()), (Allow, Some("g-0011223344556677")));
    assert_eq!(with.rules, ["with-grant"]);
    let without = policy.decide(&us_proxy(), &of_kek(Action::Unwrap), None, NOON);
    assert_eq!((without.decision, without.grant), (Deny, None));
}

#[test]
fn time_address_reason_bucket_and_client_count() {
    let text = r#"permit(principal, action == Claviger::Action::"unwrap", resource) when { CONDITION };"#;
    let decide = |condition: &str, who: &Requester, at| {
        policy(&text.replace("CONDITION", condition))
            .decide(who, &of_branch(Action::Unwrap, "records"), None, at)
            .decision
    };
    let mut who = us_proxy();

    let hours = r#"context.time.toTime() >= duration("8h") && context.time.toTime() < duration("18h")"#;
    assert_eq!(decide(hours, &who, datetime!(2026-03-02 08:00 UTC)), Allow);
    assert_eq!(decide(hours, &who, datetime!(2026-03-02 07:59:59.999 UTC)), Deny);
    assert_eq!(decide(hours, &who, datetime!(2026-03-02 18:00 UTC)), Deny);
    assert_eq!(decide(hours, &who, datetime!(2026-03-02 20:00 +8)), Allow, "noon in UTC");
    let until = r#"context.time < datetime("2026-03-02T12:00:00Z")"#;
    assert_eq!(decide(until, &who, datetime!(2026-03-02 11:59:59.999 UTC)), Allow);
    assert_eq!(decide(until, &who, NOON), Deny);

    let range = r#"context.source.isInRange(ip("192.0.2.0/24"))"#;
    for (source, expected) in
        [("192.0.2.7", Allow), ("192.0.3.7", Deny), ("::ffff:192.0.2.7", Allow), ("2001:db8::7", Deny), ("::1", Deny)]
    {
        who.source = source.parse().expect("an address");
        assert_eq!(decide(range, &who, NOON), expected, "{source}");
    }

    let reason = r#"[Claviger::Reason::"maintenance", Claviger::Reason::"incident-response"].contains(context.reason)"#;
    for known in Reason::ALL {
        who.reason = known;
        let expected = if matches!(known, Reason::Maintenance | Reason::IncidentResponse) { Allow } else { Deny };
        assert_eq!(decide(reason, &who, NOON), expected, "{known}");
    }

    let bucket =
        r#"context has bucket && context.bucket == "records" && context has writer && context.writer like "*/us""#;
    assert_eq!(decide(bucket, &who, NOON), Allow);
    assert_eq!(decide(&bucket.replace("records", "others"), &who, NOON), Deny);
    let client = r#"context has behalf && context.behalf == "app""#;
    assert_eq!(decide(client, &who, NOON), Deny);
    who.behalf = Some(Principal::new("app").expect("legal"));
    assert_eq!(decide(client, &who, NOON), Allow);
    let label = r#"resource.labels.contains("team=x") && resource.name like "rec*""#;
    assert_eq!(decide(label, &who, NOON), Allow);
    assert_eq!(decide(&label.replace("team=x", "team=y"), &who, NOON), Deny);
}

#[test]
fn what_cannot_be_evaluated_denies_although_another_rule_permits() {
    let policy = policy(
        r#"
        @id("all") permit(principal, action == Claviger::Action::"unwrap", resource);
        @id("overflows") forbid(principal, action == Claviger::Action::"unwrap", resource)
            when { context.time.offset(duration("9223372036854775807ms")) < context.time };
        "#,
    );
    let verdict = policy.decide(&us_proxy(), &of_kek(Action::Unwrap), Some("g-1"), NOON);
    assert_eq!((verdict.decision, verdict.denied_by), (Deny, Some("policy error")));
    assert_eq!((verdict.rules, verdict.grant), (vec!["overflows".to_owned()], None));
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let found = problems(
        r#"permit(principal, action == Claviger::Action::"unwarp", resource);

permit(principal, action == Claviger::Action::"unwrap", resource)
when { principal.regoin == "us" };
@id("same") permit(principal, action == Claviger::Action::"unwrap", resource) when { context.reason == "maintenance" };
@id("same") permit(principal, action == Claviger::Action::"rewrap", resource)
when {
    context.reason == Claviger::Reason::"maintainance"
};
@id("not a name") forbid(principal, action == Claviger::Action::"rewrap", resource) when { context.bucket == "records" };
forbid(principal, action, resource) when { false };
forbid(principal, action, resource) when { resource.jurisdiction == "us" };
"#,
    );
    let has = |line: usize, words: &str| {
        let start = format!("line {line}: ");
        assert!(found.iter().any(|it| it.starts_with(&start) && it.contains(words)), "{line} {words}: {found:#?}");
    };
    has(1, "unwarp");
    has(4, "regoin");
    has(5, "String");
    has(6, "another rule is called \"same\"");
    has(8, "maintainance");
    has(10, "an @id must be");
    has(10, "bucket");
    has(11, "impossible");
    has(12, "jurisdiction");
}

#[test]
fn syntax_is_told_with_its_line_and_slots_and_nothing_are_refused() {
    let starts = |text: &str, start: &str| {
        let found = problems(text);
        assert!(found.iter().any(|it| it.starts_with(start)), "{text:?}: {found:#?}");
    };
    starts("permit(principal, action, resource);\npermit(principal, action, ressource);", "line 2: ");
    starts("permit(principal, action, resource);\npermit(principal action);\nforbid(x);\n", "line 2: ");
    starts("permit(principal, action, resource);\npermit(principal action);\nforbid(x);\n", "line 3: ");
    starts("permit(principal, action, resource)\nwhen { \"", "line 2: a string");
    starts("permit(principal, action, resource)\n", "line 1: the rule that starts here");
    starts("\npermit(principal, action, resource\n;", "line 3: a ';' inside of brackets");
    starts("\n\npermit(principal, action, [resource);", "line 3: a ')' closes nothing");
    starts("permit(principal,\naction, resource", "line 1: this '(' is not closed");
    starts("permit(principal == ?principal, action, resource);", "line 1: ");
    starts("", "the policy has no rule");
    starts("// nothing\n", "the policy has no rule");
    starts("permit(principal, action, resource); ä", "line 1: ");
}

#[test]
fn problems_are_bounded_and_plain() {
    let many = "permit(principal, action == Claviger::Action::\"x\", resource);\n".repeat(500);
    assert_eq!(problems(&many).len(), PROBLEMS_MAX);
    let long = format!("permit(principal, action == Claviger::Action::\"{}\x1b[2J\", resource);", "ä".repeat(9_000));
    for problem in problems(&long) {
        assert!(problem.len() < PROBLEM_LEN_MAX + 32 && !problem.contains('\x1b'), "{problem}");
    }
}

/// In a thread with as little stack as the runtime's have.
fn in_small_stack<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).expect("a thread").join().expect("no overflow")
}

fn rule(condition: &str) -> String {
    format!("permit(principal, action, resource) when {{ {condition} }};")
}

#[test]
fn what_is_nested_too_deep_or_too_long_never_reaches_cedar() {
    let nested =
        |open: &str, inner: &str, close: &str, n: usize| rule(&[&open.repeat(n), inner, &close.repeat(n)].concat());
    let refused = [
        ("nested", nested("(", "true", ")", 64)),
        ("nested", nested("(", "true", ")", 100_000)),
        ("nested", nested("[", "true", "]", 64)),
        ("nested", nested("{a: ", "true", "}", 64)),
        ("nested", nested("if true then false else ", "true", "", 64)),
        ("nested", nested("if ", "true", " then true else false", 64)),
        ("in a row", rule(&format!("{}true", "!".repeat(5)))),
        ("in a row", rule(&format!("{}1 == 1", "- ".repeat(5)))),
        ("operators", nested("true && ", "true", "", 600)),
        ("operators", rule(&format!("context{}", ".a".repeat(600)))),
        ("operators", rule(&format!("context{}", "[\"a\"]".repeat(600)))),
        ("operators", rule(&format!("1{} == 1", " + 1".repeat(600)))),
        ("operators", format!("permit(principal, action, resource) {};", "when {true} ".repeat(300))),
        ("KiB", " ".repeat(guard::LEN_MAX + 1)),
        ("words and signs", format!("permit({}principal, action, resource);", "a,".repeat(guard::TOKENS_MAX / 2))),
        ("rules", "a;".repeat(guard::RULES_MAX + 1)),
    ];
    for (word, text) in refused {
        let found = in_small_stack(move || problems(&text));
        assert!(found.len() == 1 && found[0].contains(word), "{word}: {found:#?}");
    }
}

#[test]
fn what_the_guard_lets_through_fits_a_small_stack() {
    let n = guard::OPERATORS_MAX - 8;
    let texts = [
        rule(&[&"(".repeat(63), "true", &")".repeat(63)].concat()),
        rule(&["!(".repeat(63).as_str(), "true", &")".repeat(63)].concat()),
        rule(&["!!!!(".repeat(63).as_str(), "true", &")".repeat(63)].concat()),
        rule(&["if true then true else ".repeat(63).as_str(), "true"].concat()),
        rule(&["if ".repeat(63).as_str(), "true", &" then true else false".repeat(63)].concat()),
        rule(&["{a: ".repeat(62).as_str(), "true", &"}".repeat(62), ".a"].concat()),
        rule(&["true || ".repeat(n).as_str(), "true"].concat()),
        rule(&["true && ".repeat(n).as_str(), "true"].concat()),
        rule(&["context.granted || ".repeat(n / 2).as_str(), "true"].concat()),
        rule(&["context has behalf && ".repeat(n / 2).as_str(), "true"].concat()),
        rule(&format!("1{} == 1", " + 1".repeat(n))),
        rule(&format!("context{}", ".a".repeat(n))),
        rule(&format!("context{}", "[\"a\"]".repeat(n))),
        rule(&format!("context has a{}", ".a".repeat(n))),
        format!("permit(principal, action, resource) {};", "when {true} ".repeat(n / 2)),
        rule(&[&"(true && ".repeat(60), "true", &")".repeat(60), &" && true".repeat(n - 130)].concat()),
        rule(&format!("[{}1].contains(1)", "1,".repeat(20_000))),
        rule(&format!("ip({0}\"{1}\"{2}) == ip(\"::1\")", "(".repeat(60), "a".repeat(10_000), ")".repeat(60))),
    ];
    for text in texts {
        let start: String = text.chars().take(100).collect();
        let started = Instant::now();
        in_small_stack(move || {
            // Whether it is right is another question; deciding by it must end, too.
            if let Ok(policy) = Policy::parse(&text) {
                policy.decide(&us_proxy(), &of_kek(Action::Unwrap), None, NOON);
            }
        });
        assert!(started.elapsed().as_secs() < 60, "{start}");
    }
}

/// Pieces that policies are made of, and some that they are not.
fn soup() -> impl Strategy<Value = String> {
    let pieces = [
        "permit",
        "forbid",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ";",
        ",",
        "principal",
        "action",
        "resource",
        "when ",
        "unless ",
        "if ",
        " then ",
        " else ",
        "true",
        "false",
        "!",
        "-",
        "&&",
        "||",
        "==",
        ".",
        "\"",
        "\\",
        "//",
        "\n",
        "\r",
        " in ",
        " has ",
        " like ",
        " is ",
        "context",
        ".granted",
        "::",
        ":",
        "@id(\"a\")",
        "Claviger::Action::\"unwrap\"",
        "0",
        "é",
        "permit(principal, action, resource);",
        "permit(principal, action, resource) when {",
        "};",
        "?principal",
        "\u{2028}",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_a_policy_or_has_a_problem(text in soup()) {
        match Policy::parse(&text) {
            Ok(policy) => {
                prop_assert!(guard::check(&text).is_ok());
                prop_assert_eq!(policy.counts().0 + policy.counts().1, guard::check(&text).map_or(0, |lines| lines.len()));
            }
            Err(error) => prop_assert!(!error.problems.is_empty()),
        }
    }

    #[test]
    fn the_guard_bounds_what_it_lets_through(text in soup(), times in 1_usize..200) {
        let text = text.repeat(times);
        if guard::check(&text).is_ok() {
            // Strings and comments may hold more, so this counts only texts without them.
            if !text.contains(['"', '/', '#']) {
                let mut depth = 0_usize;
                for character in text.chars() {
                    match character {
                        '(' | '[' | '{' => depth += 1,
                        ')' | ']' | '}' => depth -= 1,
                        _ => {}
                    }
                    prop_assert!(depth <= guard::DEPTH_MAX);
                }
                prop_assert_eq!(depth, 0);
            }
        }
    }
}

#[test]
fn a_decision_is_quick() {
    let policy = policy(include_str!("../../../examples/policies/default.cedar"));
    let (who, what) = (us_proxy(), of_branch(Action::Unwrap, "records"));
    let started = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(policy.decide(&who, &what, None, NOON).decision, Allow);
    }
    let each = started.elapsed() / 1_000;
    assert!(each.as_micros() < 2_000, "{each:?}, where a twentieth of a millisecond is usual");
}
