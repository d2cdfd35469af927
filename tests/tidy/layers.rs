//! Who may know whom. A layer that does not know another can be tested without it, and replaced without it.

use crate::source::{Source, names};

/// Files under `place` do not name `word`; `why` is the sentence of ARCHITECTURE.md.
struct Rule {
    place: &'static str,
    except: &'static [&'static str],
    word: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule { place: "src/", except: &["src/io/"], word: &["io_uring"], why: "only io/ names io_uring" },
    Rule { place: "src/", except: &["src/background/"], word: &["glommio"], why: "only background/ names glommio" },
    Rule {
        place: "src/",
        except: &["src/services/", "src/front/pipe.rs"],
        word: &["tokio"],
        why: "only services/ names tokio, and the pipe the traits that h2 asks for",
    },
    Rule {
        place: "src/",
        except: &["src/io/clock.rs", "src/client/"],
        word: &["Instant", "SystemTime"],
        why: "only io::clock reads a clock, and the client, which is not the core",
    },
    Rule {
        place: "src/log/",
        except: &[],
        word: &["http", "kinesis", "worker::", "shard::"],
        why: "log knows bytes, not protocols",
    },
    Rule {
        place: "src/catalog/",
        except: &[],
        word: &["http", "worker"],
        why: "the catalog decides, it does not serve",
    },
    Rule {
        place: "src/kinesis/",
        except: &[],
        word: &["uring", "worker", "log::"],
        why: "kinesis turns bytes into requests",
    },
    Rule {
        place: "src/native/",
        except: &[],
        word: &["http", "kinesis", "catalog", "worker::", "shard::"],
        why: "native turns bytes into messages",
    },
    Rule {
        place: "src/load/",
        except: &[],
        word: &["worker::", "catalog", "shard::", "front::", "uring"],
        why: "the generator is a client: it knows the wire, not the server",
    },
    Rule {
        place: "src/client/",
        except: &[],
        word: &["worker::", "catalog::", "io::", "shard::", "kinesis::", "cli::"],
        why: "the client knows the protocol and the form of a batch, not the server",
    },
    Rule { place: "src/shard/", except: &[], word: &["http", "FileName"], why: "shard knows neither HTTP nor files" },
    Rule {
        place: "src/http/",
        except: &[],
        word: &["kinesis", "log::", "shard::", "catalog"],
        why: "http knows messages only",
    },
    Rule { place: "src/tune/", except: &[], word: &["crate::"], why: "tune knows the host, not the server" },
    Rule { place: "src/stdx/", except: &[], word: &["crate::"], why: "stdx knows nothing of this program" },
    Rule {
        place: "src/",
        except: &[
            "src/io/",
            "src/background/",
            "src/cli/",
            "src/client/",
            "src/main.rs",
            "src/stdx/spsc_tests.rs",
            "src/tune/root.rs",
            "src/tune/hands.rs",
        ],
        word: &["std::fs", "std::net::Tcp", "std::net::Udp", "std::thread"],
        why: "the core is pure: I/O is ops",
    },
];

pub fn complaints(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for rule in RULES.iter().filter(|rule| rule.covers(&source.path)) {
            for (line, code) in source.lines().take_while(|(_, code)| !code.contains("mod tests")) {
                complaints
                    .extend(rule.broken_by(code).map(|word| format!("{}:{line}: {word}: {}", source.path, rule.why)));
            }
        }
    }
    complaints
}

impl Rule {
    fn covers(&self, path: &str) -> bool {
        path.starts_with(self.place) && !self.except.iter().any(|except| path.starts_with(except))
    }

    /// A word ending in `::` is looked for as a path through the crate's root, `a::b` as it stands, others as whole names.
    fn broken_by(&self, code: &str) -> Option<&'static str> {
        self.word.iter().copied().find(|word| match word.strip_suffix("::") {
            Some("crate") => code.contains("crate::"),
            Some(module) => code.contains(&format!("crate::{module}::")),
            None if word.contains("::") => code.contains(word),
            None => names(code).any(|(name, _)| name == *word),
        })
    }
}

#[test]
fn rules_bite() {
    let rule = RULES.iter().find(|rule| rule.place == "src/log/").expect("it is in the table above");
    assert_eq!(rule.broken_by("use crate::kinesis::error::Error;"), Some("kinesis"));
    assert_eq!(rule.broken_by("let shard = 3;"), None);
    assert_eq!(rule.broken_by("use crate::shard::append;"), Some("shard::"));
    assert!(rule.covers("src/log/format.rs") && !rule.covers("src/http/http1.rs"));
}
