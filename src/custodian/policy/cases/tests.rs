//! Tests of tables: what rows stand for, what is told of a policy, and what is refused.

use super::*;

const POLICY: &str = r#"
@id("proxies") permit(principal, action in Claviger::Action::"use", resource) when { principal.role == "proxy" };
@id("looking") permit(principal, action in Claviger::Action::"look", resource) when { principal.role == "officer" };
@id("us-only") forbid(principal, action == Claviger::Action::"unwrap", resource)
    when { resource has jurisdiction && resource.jurisdiction == "us" } unless { principal.region == "us" };
"#;

const LISTS: &str = "
principals:  # who there is
    us      spiffe://example.org/region/us/proxy/p1
    sg      spiffe://example.org/region/sg/proxy/p1
    spiffe://example.org/region/sg/proxy/p2
    officer spiffe://example.org/region/us/officer/alice
keys:
    records jurisdiction=us team=x
    others
buckets:
    one-bucket
    two-bucket
sources:
    192.0.2.1
    2001:db8::1
times:
    2026-03-02T12:00:00Z
clients:
    app
";

fn parse(rows: &str) -> Result<Cases, CasesError> {
    Cases::parse(&format!("{LISTS}\n{rows}"))
}

fn problems(rows: &str) -> Vec<String> {
    let error = parse(rows).expect_err("it is not right");
    let lists = LISTS.lines().count() + 1;
    let own = |problem: &Problem| format!("{}: {}", problem.line.map_or(0, |line| line - lists), problem.what);
    error.problems.iter().map(own).collect()
}

fn count(header: &str, row: &str) -> usize {
    let cases = parse(&format!("{header} | expect\n{row} | deny\n")).unwrap_or_else(|error| panic!("{row}: {error:?}"));
    cases.rows.iter().map(Row::count).sum()
}

#[test]
fn a_table_tells_what_a_policy_does_otherwise() {
    let policy = Policy::parse(POLICY).expect("right");
    let cases = parse(
        "who               | action | key     | reason | expect
         us                | use    | records | *      | allow
         !*/region/us/*    | unwrap | records | *      | deny
         sg, us            | unwrap | records | -      | allow   # not so for sg
         officer           | read   | *       |        | allow

         who | action | expect
         officer | look | allow
         us | list | allow",
    )
    .expect("right");
    let outcomes = cases.run(&policy);
    let wrong: Vec<usize> = outcomes.iter().map(|outcome| outcome.wrong.len()).collect();
    let counts: Vec<usize> = outcomes.iter().map(|outcome| outcome.row.count()).collect();
    assert_eq!(counts, [40, 20, 2, 2, 6, 1]);
    assert_eq!(wrong, [0, 0, 1, 0, 0, 1]);
    let rules = |index: usize| outcomes[index].rules.iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(rules(0), ["proxies"]);
    assert_eq!(rules(1), ["us-only"]);
    assert_eq!(rules(2), ["proxies", "us-only"]);
    assert_eq!(rules(5), [""; 0]);
    let (case, verdict) = &outcomes[2].wrong[0];
    assert_eq!(verdict.rules, ["us-only"]);
    assert_eq!(
        case.to_string(),
        "spiffe://example.org/region/sg/proxy/p1 unwrap records (jurisdiction=us team=x), reason unspecified, from 127.0.0.1, \
         at 2026-01-01T12:00:00Z"
    );
    assert_eq!(outcomes[2].row.text, "sg, us | unwrap | records | - | allow");
}

#[test]
fn cells_stand_for_what_they_say() {
    let plain = "who | action | key";
    assert_eq!(count(plain, "* | unwrap | records"), 4);
    assert_eq!(count(plain, "*/proxy/* | unwrap | records"), 3);
    assert_eq!(count(plain, "!us | unwrap | records"), 3, "a short name");
    assert_eq!(count(plain, "*, !*/region/us/*, officer | unwrap | records"), 3);
    assert_eq!(count(plain, "us, us | unwrap | records"), 1);
    assert_eq!(
        count(plain, "spiffe://other.example/region/eu/proxy/p9 | unwrap | new-kek"),
        1,
        "values that no list has"
    );
    assert_eq!(count(plain, "us | use | *"), 8);
    assert_eq!(count(plain, "us | use, !rewrap, read | records"), 4);
    assert_eq!(count(plain, "us | *able | records"), 2, "disable and enable");
    let (of_keys, of_custodian) = (count(plain, "us | * | records"), count(plain, "us | * | -"));
    assert!((20..34).contains(&of_keys) && (20..34).contains(&of_custodian), "{of_keys} {of_custodian}");
    assert_eq!(count(plain, "us | !use | records"), of_keys - 4);
    assert_eq!(
        count("who | action | key | labels", "us | unwrap | records | jurisdiction=eu, jurisdiction=sg team=y"),
        2
    );
    assert_eq!(count("who | action | key | reason | granted", "us | unwrap | records | * | *"), 20);
    assert_eq!(count("who | action | key | reason", "us | unwrap | records | !*customer*"), 8);
    assert_eq!(count("who | action | key | bucket | purpose", "us | unwrap | records | * | *"), 6);
    assert_eq!(count("who | action | key | from | at | behalf", "us | unwrap | records | *, 10.0.0.1 | * | *"), 3);
}

#[test]
fn what_a_row_says_reaches_the_policy() {
    let permit = |condition: &str| {
        let text =
            format!("permit(principal, action == Claviger::Action::\"unwrap\", resource) when {{ {condition} }};");
        Policy::parse(&text).unwrap_or_else(|error| panic!("{error}"))
    };
    let row = "who|action|key|labels|reason|from|at|bucket|purpose|writer|behalf|granted|expect
        us|unwrap|records|jurisdiction=eu|maintenance|2001:db8::1|2026-03-02T20:00:00+08:00|one-bucket|upload|proxy/sg|app|yes|allow";
    let cases = parse(row).expect("right");
    for condition in [
        r#"resource.name == "records" && resource has jurisdiction && resource.jurisdiction == "eu""#,
        r#"context.reason == Claviger::Reason::"maintenance" && context.source == ip("2001:db8::1")"#,
        r#"context.time == datetime("2026-03-02T12:00:00Z") && context.granted"#,
        r#"context has bucket && context.bucket == "one-bucket" && context has behalf && context.behalf == "app""#,
        r#"context has purpose && context.purpose == "upload" && context has writer && context.writer == "proxy/sg""#,
    ] {
        assert!(cases.run(&permit(condition))[0].wrong.is_empty(), "{condition}");
    }
    let cases = parse("who|action|key|expect\nsg|unwrap|records|allow").expect("right");
    for condition in [
        r#"context.reason == Claviger::Reason::"unspecified" && context.source.isLoopback() && !context.granted"#,
        r#"!(context has bucket) && !(context has purpose) && !(context has writer) && !(context has behalf)"#,
        r#"resource has jurisdiction && resource.jurisdiction == "us" && resource.labels.contains("team=x")"#,
    ] {
        assert!(cases.run(&permit(condition))[0].wrong.is_empty(), "{condition}");
    }
    let cases = parse("who|action|key|bucket|expect\nsg|unwrap|records|one-bucket|allow").expect("right");
    let own =
        r#"context has writer && context.writer == "proxy/sg" && context has purpose && context.purpose == "object""#;
    assert!(cases.run(&permit(own))[0].wrong.is_empty());
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let header = "who | action | key | reason | from | at | bucket | granted | expect\n";
    for (row, told) in [
        ("us|unwrap|records||||||maybe", "1: expect must be"),
        ("us|unwrap|records||||||", "1: expect must be"),
        ("us|unwrap|records|allow", "1: 4 cells under a header of 9"),
        ("|unwrap|records||||||allow", "1: there must be a who"),
        ("us||records||||||allow", "1: there must be an action"),
        ("nobody|unwrap|records||||||allow", "1: the id does not start with spiffe://"),
        ("*/region/mars/*|unwrap|records||||||deny", "1: '*/region/mars/*' matches no known value of who"),
        ("us, !us|unwrap|records||||||deny", "1: nothing is left of who"),
        ("us|unwarp|records||||||allow", "1: there is no action or group"),
        ("us|unwrap|||||||allow", "1: unwrap is not asked of the custodian itself"),
        ("us|list|records||||||allow", "1: list is not asked of a KEK"),
        ("us|use,!use|records||||||allow", "1: the row stands for no case"),
        ("us|unwrap|a/b||||||allow", "1: a KEK name must be"),
        ("us|unwrap|rec*x||||||allow", "1: 'rec*x' matches no known value of key"),
        ("us|unwrap|records|because|||||allow", "1: 'because': not a known reason"),
        ("us|unwrap|records||somewhere||||allow", "1: 'somewhere' is no IP address"),
        ("us|unwrap|records|||noon|||allow", "1: 'noon' is no RFC 3339 time"),
        ("us|unwrap|records||||A||allow", "1: a bucket name must be"),
        ("us|unwrap|records|||||perhaps|allow", "1: granted must be yes or no"),
    ] {
        let found = problems(&format!("{header}{row}"));
        let expected = told.replacen('1', "2", 1);
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{row}: {found:?}");
    }
    let found = problems(&format!("{header}us|x|records||||||allow\n\nus|y|records||||||allow\nstray"));
    assert_eq!(found.len(), 3, "{found:?}");
    for (rows, told) in [
        ("who | action | colour | expect\nus | unwrap | red | allow", "1: no column is called 'colour'"),
        ("who | action | who | expect", "1: a column stands twice"),
        ("who | key | expect", "1: the header has no column 'action'"),
        ("who | action", "1: the header has no column 'expect'"),
        ("who|action|key|labels|expect\nus|unwrap|records|a|deny", "2: a label is NAME=VALUE"),
        ("who|action|labels|expect\nus|list|a=b|deny", "2: labels without a key"),
        ("who|action|key|writer|expect\nus|unwrap|records|proxy/us|deny", "2: purpose and writer go with a bucket"),
        ("stray", "1: neither a list"),
        ("principals:\n  us spiffe://example.org/region/us/proxy/p3", "2: the list has this already"),
        ("sources:\n  192.0.2.1 192.0.2.2", "2: one value a line"),
        ("", "0: there is no case"),
    ] {
        let found = problems(rows);
        assert!(found.len() == 1 && found[0].starts_with(told), "{rows}: {found:?}");
    }
}

#[test]
fn a_table_is_bounded() {
    let lists: String = (0..400).map(|n| format!("    spiffe://example.org/region/us/proxy/p{n}\n")).collect();
    let table = |rows: &str| format!("principals:\n{lists}who|action|key|reason|granted|expect\n{rows}");
    assert!(Cases::parse(&table("*|use|records|*|*|deny\n")).is_ok());
    let many = Cases::parse(&table(&"*|use|records|*|*|deny\n".repeat(4))).expect_err("128,000 cases");
    assert_eq!(many.problems.len(), 1, "{many:?}");
    assert!(many.problems[0].what.contains("more than 100000 cases"), "{many:?}");
    let items = Cases::parse(&table(&format!("*|use|records|{}*|*|deny", "*,".repeat(300)))).expect_err("300 items");
    assert!(items.problems[0].what.contains("more than 256"), "{items:?}");
    assert!(Cases::parse(&" ".repeat(LEN_MAX + 1)).is_err());
}

#[test]
fn the_shipped_policies_decide_as_their_cases_say() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/policies");
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let files = std::fs::read_dir(&folder).expect("shipped").map(|entry| entry.expect("listed").path());
    let policies: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "cedar")).collect();
    assert!(policies.len() >= 4, "{policies:?}");
    for path in policies {
        let policy = Policy::parse(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let cases = Cases::parse(&read(&path.with_extension("cases"))).unwrap_or_else(|error| panic!("{error:#?}"));
        let outcomes = cases.run(&policy);
        for Outcome { row, wrong, .. } in &outcomes {
            let wrong: Vec<String> =
                wrong.iter().map(|(case, verdict)| format!("{case}: {:?}", verdict.rules)).collect();
            assert!(wrong.is_empty(), "{} line {}: {wrong:#?}", path.display(), row.line);
        }
        // The tables would notice if a rule went: each decides something in them.
        let text = policy.text();
        let decided: BTreeSet<&str> = outcomes.iter().flat_map(|it| &it.rules).map(String::as_str).collect();
        let named = text.split("@id(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let idle: Vec<&str> = named.filter(|name| !decided.contains(name)).collect();
        assert_eq!(idle, Vec::<&str>::new(), "rules of {} that no case needs", path.display());
    }
}
