//! The rules of the house, as functions from one source file to what is wrong with it.

use std::fmt;
use std::path::{Component, Path};

use crate::tokens::{Token, tokens};

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// `src/format/footer.rs:12`.
    pub(crate) place: String,
    /// The rule's short name.
    pub(crate) rule: &'static str,
    /// What was found and what to do about it.
    pub(crate) advice: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.rule, self.advice)
    }
}

struct Room {
    name: &'static str,
    floor: u8,
    /// Modules of the same floor that it may import all the same.
    beside: &'static [&'static str],
}

const fn room(name: &'static str, floor: u8, beside: &'static [&'static str]) -> Room {
    Room { name, floor, beside }
}

/// The map in src/lib.rs. Floor 0 has an order of its own: secret, crypto, names, cbor; beside them net, and telemetry on it.
const HOUSE: &[Room] = &[
    room("main", 5, &["cli", "config"]),
    room("cli", 5, &["config"]),
    room("config", 5, &[]),
    room("proxy", 4, &[]),
    room("maintenance", 4, &[]),
    room("object", 3, &[]),
    room("storage", 2, &[]),
    room("transit", 2, &[]),
    room("custodian", 2, &[]),
    room("format", 1, &[]),
    room("custody", 1, &[]),
    room("s3", 1, &[]),
    room("tlog", 1, &[]),
    room("cbor", 0, &["secret", "crypto", "names"]),
    room("names", 0, &["secret", "crypto"]),
    room("crypto", 0, &["secret"]),
    room("secret", 0, &[]),
    room("net", 0, &["secret", "crypto"]),
    room("telemetry", 0, &["secret", "crypto", "net"]),
];

struct Confined {
    crates: &'static [&'static str],
    /// Files, or folders that end in `/`.
    homes: &'static [&'static str],
    /// Unit tests may use it anywhere.
    free_in_tests: bool,
    advice: &'static str,
}

const CONFINED: &[Confined] = &[
    Confined {
        crates: &["ring", "aws_lc_rs"],
        homes: &["src/crypto.rs"],
        free_in_tests: false,
        advice: "use what `crate::crypto` offers, or add the primitive there",
    },
    Confined {
        crates: &["anyhow"],
        homes: &["src/cli.rs", "src/cli/"],
        free_in_tests: false,
        advice: "give the module a `thiserror` enum whose variants are causes",
    },
    Confined {
        crates: &["s3s"],
        homes: &["src/cli.rs", "src/cli/"],
        free_in_tests: true,
        advice: "it serves `demo` only; pass what it makes in from `cli`",
    },
    Confined {
        crates: &["rcgen"],
        homes: &["src/cli.rs", "src/cli/", "src/net/tls.rs", "src/net/tls/issuer.rs"],
        free_in_tests: true,
        advice: "certificates are made by `init`, `demo` and `certificate`, and by `net::tls` for names that somebody asks for",
    },
    Confined {
        crates: &["age"],
        homes: &["src/custodian/backup.rs", "src/custodian/backup/", "src/cli.rs", "src/cli/"],
        free_in_tests: true,
        advice: "backups of KEKs alone are in its format; objects are in ours",
    },
    Confined {
        crates: &["indicatif"],
        homes: &["src/cli.rs", "src/cli/"],
        free_in_tests: false,
        advice: "jobs count in `maintenance::progress`; `cli` shows it",
    },
    Confined {
        crates: &["prometheus_client"],
        homes: &["src/telemetry/metrics.rs", "src/telemetry/metrics/"],
        free_in_tests: false,
        advice: "count with what `telemetry::metrics` offers: it has no labels that requests could make up",
    },
    Confined {
        crates: &["opentelemetry", "opentelemetry_sdk", "opentelemetry_proto", "prost"],
        homes: &["src/telemetry/traces.rs", "src/telemetry/traces/"],
        free_in_tests: true,
        advice: "begin spans with what `telemetry::traces` offers: what they hold is set by name",
    },
];

/// Where output on the terminal belongs.
const PRINTERS: &[&str] = &["src/cli.rs", "src/cli/"];
const PRINT_MACROS: &[&str] = &["print", "println", "eprint", "eprintln"];

/// Modules that take bytes and give bytes.
const WITHOUT_IO: &[&str] = &["format", "s3"];
const IO_CRATES: &[&str] = &["tokio", "hyper", "hyper_util", "async", "await"];
const IO_OF_STD: &[&str] = &["fs", "process", "thread"];
/// Of `std::net`, the addresses are only values.
const SOCKETS: &[&str] = &["TcpStream", "TcpListener", "UdpSocket", "ToSocketAddrs"];

/// Every violation in the file at `path` (relative to the package, with `/`). `test_only` says that the whole file is test code.
pub(crate) fn check(path: &str, source: &str, test_only: bool) -> Vec<Violation> {
    let mut found = Vec::new();
    header(path, source, &mut found);
    file_name(path, &mut found);
    if path.starts_with("src/") {
        let mut tokens = tokens(source);
        tokens.iter_mut().for_each(|token| token.in_test |= test_only);
        floors(path, &tokens, &mut found);
        confinement(path, &tokens, &mut found);
        printing(path, &tokens, &mut found);
        input_and_output(path, &tokens, &mut found);
        comparing(path, &tokens, &mut found);
    }
    found
}

/// The modules that the file at `path` declares as `#[cfg(test)] mod x;`, as paths without `.rs`.
pub(crate) fn test_only_modules(path: &str, source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    let declared = (0..tokens.len()).filter_map(|at| {
        let rest = tokens[at..].iter().take(16).map(|token| token.text.as_str()).collect::<Vec<_>>();
        let rest = rest.strip_prefix(&attribute)?;
        let visibility = rest.iter().take_while(|text| ["pub", "(", "crate", "super", ")"].contains(text)).count();
        let named = rest.get(visibility) == Some(&"mod") && rest.get(visibility + 2) == Some(&";");
        rest.get(visibility + 1).copied().filter(|_| named)
    });
    let folder = path.trim_end_matches(".rs").trim_end_matches("/lib").trim_end_matches("/main");
    declared.map(|module| format!("{folder}/{module}")).collect()
}

fn header(path: &str, source: &str, found: &mut Vec<Violation>) {
    let first = source.lines().next().unwrap_or_default();
    if first.strip_prefix("//!").is_none_or(|text| text.trim().is_empty()) {
        let advice = "the first line must be a `//!` comment that says the file's one job".to_owned();
        found.push(Violation { place: format!("{path}:1"), rule: "header", advice });
    }
}

fn file_name(path: &str, found: &mut Vec<Violation>) {
    if path.ends_with("/mod.rs") {
        let advice = "name the file after its module (`foo.rs` beside `foo/`)".to_owned();
        found.push(Violation { place: format!("{path}:1"), rule: "no mod.rs", advice });
    }
}

/// The module right under the crate's root that the file belongs to.
fn top_module(path: &str) -> &str {
    let inside = path.trim_start_matches("src/");
    inside.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

fn floors(path: &str, tokens: &[Token], found: &mut Vec<Violation>) {
    let importer = top_module(path);
    if importer == "lib" {
        return;
    }
    let mut say = |line: usize, advice: String| {
        found.push(Violation { place: format!("{path}:{line}"), rule: "floors", advice });
    };
    let Some(own) = HOUSE.iter().find(|room| room.name == importer) else {
        say(1, format!("`{importer}` stands on no floor; add it to src/lib.rs and to HOUSE in tests/tidy/rules.rs"));
        return;
    };
    for (imported, line) in imports(path, tokens) {
        if imported == importer {
            continue;
        }
        let Some(other) = HOUSE.iter().find(|room| room.name == imported) else {
            say(line, format!("`crate::{imported}` is no module of the house; name what you import by its module"));
            continue;
        };
        let below = other.floor < own.floor;
        if !(below || own.beside.contains(&other.name)) {
            say(
                line,
                format!(
                    "`{importer}` (floor {}) must not import `{imported}` (floor {}); move what both need to a lower floor, or pass it in",
                    own.floor, other.floor
                ),
            );
        }
    }
}

/// The top modules that a file names through `crate::`, `claviger::` or a `super::` chain that leaves its own module.
fn imports(path: &str, tokens: &[Token]) -> Vec<(String, usize)> {
    let folders = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).count() - 1;
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let start = at;
        at += 1;
        if !heads_a_path(tokens, start) {
            continue;
        }
        let to_root = match tokens[start].text.as_str() {
            "crate" | "claviger" => text(tokens, start + 1) == "::",
            "super" => {
                let mut supers = 1;
                while text(tokens, at) == "::" && text(tokens, at + 1) == "super" {
                    supers += 1;
                    at += 2;
                }
                supers == folders + tokens[start].depth && text(tokens, at) == "::"
            }
            _ => false,
        };
        if to_root {
            found.extend(heads(tokens, at + 1));
        }
    }
    found
}

fn text(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| token.text.as_str())
}

fn heads_a_path(tokens: &[Token], at: usize) -> bool {
    at == 0 || tokens[at - 1].text != "::"
}

/// The first segments at `at`: one, or those of a `{…}` group.
fn heads(tokens: &[Token], at: usize) -> Vec<(String, usize)> {
    let Some(first) = tokens.get(at) else { return Vec::new() };
    if first.text != "{" {
        return vec![(first.text.clone(), first.line)];
    }
    let mut found = Vec::new();
    let mut open = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "{" => open += 1,
            "}" => open -= 1,
            _ => {}
        }
        if open == 0 {
            break;
        }
        if open == 1 && matches!(token.text.as_str(), "{" | ",") {
            let next = tokens.get(index + 1).filter(|next| !matches!(next.text.as_str(), "}" | "self"));
            found.extend(next.map(|next| (next.text.clone(), next.line)));
        }
    }
    found
}

fn is_at_home(path: &str, homes: &[&str]) -> bool {
    homes.iter().any(|home| if home.ends_with('/') { path.starts_with(home) } else { path == *home })
}

fn confinement(path: &str, tokens: &[Token], found: &mut Vec<Violation>) {
    for confined in CONFINED.iter().filter(|confined| !is_at_home(path, confined.homes)) {
        for (at, token) in tokens.iter().enumerate() {
            let named = confined.crates.contains(&token.text.as_str());
            let excused = confined.free_in_tests && token.in_test;
            if !named || excused || is_tls_provider(path, tokens, at) || is_member(tokens, at) {
                continue;
            }
            let place = format!("{path}:{}", token.line);
            let advice =
                format!("`{}` belongs to {} alone; {}", token.text, confined.homes.join(", "), confined.advice);
            found.push(Violation { place, rule: "crate confinement", advice });
        }
    }
}

/// `rustls::crypto::ring` and its like, which only src/net/tls.rs may name: it picks the provider, it does no cryptography.
fn is_tls_provider(path: &str, tokens: &[Token], at: usize) -> bool {
    let provider = ["rustls", "::", "crypto", "::"];
    path == "src/net/tls.rs" && at >= 4 && tokens[at - 4..at].iter().map(|t| t.text.as_str()).eq(provider)
}

/// A field or method that happens to have the name.
fn is_member(tokens: &[Token], at: usize) -> bool {
    at > 0 && tokens[at - 1].text == "."
}

fn printing(path: &str, tokens: &[Token], found: &mut Vec<Violation>) {
    if is_at_home(path, PRINTERS) {
        return;
    }
    for (at, token) in tokens.iter().enumerate() {
        if PRINT_MACROS.contains(&token.text.as_str()) && text(tokens, at + 1) == "!" {
            let place = format!("{path}:{}", token.line);
            let advice =
                format!("`{}!` belongs to `cli` alone; use `tracing`, or return what is to be shown", token.text);
            found.push(Violation { place, rule: "printing", advice });
        }
    }
}

fn input_and_output(path: &str, tokens: &[Token], found: &mut Vec<Violation>) {
    if !WITHOUT_IO.contains(&top_module(path)) {
        return;
    }
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| !token.in_test) {
        let of_std = token.text == "std"
            && text(tokens, at + 1) == "::"
            && heads(tokens, at + 2).iter().any(|(head, _)| IO_OF_STD.contains(&head.as_str()));
        if of_std || SOCKETS.contains(&token.text.as_str()) || IO_CRATES.contains(&token.text.as_str()) {
            let place = format!("{path}:{}", token.line);
            let advice = format!(
                "`{}` does not belong in `{}`, which takes bytes and gives bytes; adapt it from a higher floor",
                token.text,
                top_module(path)
            );
            found.push(Violation { place, rule: "no I/O", advice });
        }
    }
}

/// `==` and `!=` stop at the first byte that differs.
fn comparing(path: &str, tokens: &[Token], found: &mut Vec<Violation>) {
    let is_comparison = |at: usize| matches!(text(tokens, at), "=" | "!") && text(tokens, at + 1) == "=";
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "expose" && !token.in_test) {
        // What is exposed, back to where its path begins.
        let operand = |token: &&Token| {
            matches!(token.text.as_str(), "." | "&" | "*")
                || token.text.chars().all(|c| c.is_alphanumeric() || c == '_')
        };
        let begins = at - tokens[..at].iter().rev().take_while(operand).count();
        if is_comparison(at + 3) || (begins >= 2 && is_comparison(begins - 2)) {
            let place = format!("{path}:{}", token.line);
            let advice = "compare secrets with `crypto::constant_time_eq`".to_owned();
            found.push(Violation { place, rule: "comparing secrets", advice });
        }
    }
}
