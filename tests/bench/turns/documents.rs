//! The worst documents that there are, each for a part of the grammar: as large as a document may be, or, of those whose
//! names end in `, packed`, of items that are each as large as an item may be.

use mulkko::policy::{MAX_BYTES, MAX_ITEM_BYTES, MAX_ITEM_VALUES};

/// A document's name, and what makes it.
pub type Named = (&'static str, fn() -> Vec<u8>);

/// All of them.
pub const ALL: &[Named] = &[
    ("nothing but space", || [b"{}".to_vec(), vec![b' '; MAX_BYTES - 2]].concat()),
    ("space between members", || filled("{", |_| " \n".into(), "\"revision\": 1}")),
    ("lines, then no JSON", || filled("{", |_| "\n".into(), "x")),
    ("unknown members", || filled("{", |i| format!("\"{i}\":1,"), "\"name\":\"a\"}")),
    ("one unknown member", || filled("{\"", |_| "x".into(), "\":1}")),
    ("metadata, one text", || filled(r#"{"metadata":{"a":""#, |_| "x".into(), "\"}}")),
    ("metadata, escapes", || filled(r#"{"metadata":{"a":""#, |_| "\\u00e9".into(), "\"}}")),
    ("metadata, packed", || one(r#"{"metadata":{"a":""#, |_| ("\\u00e9".into(), 0), "\"}}")),
    ("metadata of all flags", metadata_of_all_flags),
    ("name, packed", || one(r#"{"name":""#, |_| ("a".into(), 0), "\"}")),
    ("percent of a million digits", || {
        filled(r#"{"holdouts":[{"name":"a","key":"request","percent":"#, |_| "1".into(), "}]}")
    }),
    ("percent, packed", || {
        packed("holdouts", r#"{"name":"a","key":"request","percent":"#, |_| ("1".into(), 0), "}")
    }),
    ("numbers, packed", || packed_flags(r#"{"on":"#, |_| ("1234567890".into(), 0), "e-9}", "true")),
    ("a million flags", || {
        filled(r#"{"flags":{"#, |i| format!("\"{i}\":{FLAG},"), &format!("\"x\":{FLAG}}}}}"))
    }),
    ("20,000 flags of one name", || items("flags", |_| format!("\"a\":{FLAG}"))),
    ("20,000 flags of long names", || items("flags", |i| format!("\"{}{i:05}\":{FLAG}", "x".repeat(300)))),
    ("20,000 cohorts of long names", || items("cohorts", |i| format!("\"{}{i:05}\":true", "x".repeat(300)))),
    ("20,000 cohorts that ask the next", || cohorts(|i| format!(r#"{{"cohort":"{}"}}"#, name(i + 1)))),
    ("20,000 cohorts that ask many", || {
        cohorts(|i| {
            let asked = (1..17).map(|n| format!(r#"{{"cohort":"{}"}}"#, name(i + n)));
            format!(r#"{{"or":[{}]}}"#, asked.collect::<Vec<_>>().join(","))
        })
    }),
    ("20,000 attributes", || {
        items("attributes", |i| format!("\"{}{i:05}\":[{{\"header\":\"x\"}}]", "x".repeat(300)))
    }),
    ("20,000 evaluators in a chain", || evaluators(|i| format!(r#"{{"!":{{"$ref":"e{}"}}}}"#, i + 1))),
    ("20,000 evaluators, four ways", evaluators_four_ways),
    ("20,000 keys, layers and holdouts", names_of_all_kinds),
    ("sources of one key", || {
        filled(r#"{"keys":{"k":{"from":["#, |_| r#"{"header":"x"},"#.into(), r#"{"header":"x"}]}}}"#)
    }),
    ("sources, packed", || {
        packed_named("keys", r#"{"from":["#, |_| (r#"{"header":"x"},"#.into(), 2), r#"{"header":"x"}]}"#)
    }),
    ("`in` of 600,000", || {
        filled(r#"{"cohorts":{"c":{"in":["x",["#, |i| format!("\"{i:09}\","), "\"\"]]}}}")
    }),
    ("`in`, packed", || {
        packed_cohorts(r#"{"in":["x",["#, |i| (format!("\"{:08}\",", scattered(i)), 1), "\"\"]]}")
    }),
    ("`in` of one prefix, packed", || {
        packed_cohorts(
            r#"{"in":["x",["#,
            |i| (format!("\"xxxxxxx{:05}\",", scattered(i) % 100_000), 1),
            "\"\"]]}",
        )
    }),
    ("`in` of numbers, packed", || packed_cohorts(r#"{"in":[1,["#, |_| ("0,".into(), 1), "0]]}")),
    ("`cidr` of 600,000", || {
        filled(r#"{"cohorts":{"c":{"cidr":["x",["#, |i| format!("\"{}\",", ipv4(i)), "\"::\"]]}}}")
    }),
    ("`cidr`, packed", || {
        packed_cohorts(r#"{"cidr":["x",["#, |i| (format!("\"{}\",", ipv4(scattered(i))), 1), "\"::\"]]}")
    }),
    ("`cidr` of IPv6, packed", || {
        packed_cohorts(
            r#"{"cidr":["x",["#,
            |i| (format!("\"{:x}::{:x}\",", scattered(i) % 65_536, i % 65_536), 1),
            "\"::\"]]}",
        )
    }),
    ("`cidr` refused, packed", || packed_cohorts(r#"{"cidr":["x",["#, |_| ("\"x\",".into(), 1), "\"::\"]]}")),
    ("operators, packed", || packed_cohorts(r#"{"and":["#, |_| (r#"{"!":0},"#.into(), 2), "0]}")),
    ("empty lists, packed", || packed_cohorts(r#"{"and":["#, |_| ("[],".into(), 2), "0]}")),
    ("zeros, packed", || packed_cohorts(r#"{"or":["#, |_| ("0,".into(), 1), "0]}")),
    ("texts, packed", || packed_cohorts(r#"{"cat":["#, |_| ("\"\",".into(), 1), "0]}")),
    ("variables, packed", || {
        packed_cohorts(r#"{"and":["#, |_| (r#"{"var":"request.headers.x"},"#.into(), 2), "0]}")
    }),
    ("a variable of many dots, packed", || packed_cohorts(r#"{"var":""#, |_| ("a.".into(), 0), "\"}")),
    ("attributes of many dots", || filled(r#"{"attributes":{""#, |_| "a.".into(), r#"":[{"header":"x"}]}}"#)),
    ("versions, packed", || {
        packed_cohorts(r#"{"and":["#, |_| (r#"{"sem_ver":[{"var":"v"},"=","1.2.3"]},"#.into(), 6), "0]}")
    }),
    ("a split, packed", || {
        packed_cohorts(r#"{"fractional":[{"var":"a"},"#, |_| (r#"["a",1],"#.into(), 3), r#"["b",1]]}"#)
    }),
    ("lists in lists, packed", || {
        packed_cohorts(
            &format!("{{\"or\":[{}", "[".repeat(50)),
            |_| ("0,".into(), 1),
            &format!("{{\"!\":0}}{}]}}", "]".repeat(50)),
        )
    }),
    ("operators in operators, packed", || {
        packed_cohorts(
            r#"{"and":["#,
            |_| (format!("{}0{},", r#"{"!":["#.repeat(28), "]}".repeat(28)), 58),
            "0]}",
        )
    }),
    ("nested too deep", || filled(r#"{"cohorts":{"c":"#, |_| "[".into(), "}}")),
    ("small patterns, packed", || {
        packed_cohorts(r#"{"or":["#, |i| (format!(r#"{{"matches":["","a{i}"]}},"#), 4), "0]}")
    }),
    ("large patterns, packed", || {
        packed_cohorts(
            r#"{"or":["#,
            |i| (format!(r#"{{"matches":["","[a-z]{{{}}}"]}},"#, 400 + i % 600), 4),
            "0]}",
        )
    }),
    ("slow patterns, packed", || {
        packed_cohorts(
            r#"{"or":["#,
            |_| (format!(r#"{{"matches":["","{}"]}},"#, "(?i:[^a])|".repeat(100)), 4),
            "0]}",
        )
    }),
    ("refused patterns, packed", || {
        packed_cohorts(
            r#"{"or":["#,
            |_| (format!(r#"{{"matches":["","{}(a{{999}}){{999}}"]}},"#, "(".repeat(200)), 4),
            "0]}",
        )
    }),
    ("unknown operators, one long name", unknown_operators),
    ("unknown operators, packed", || {
        packed_cohorts(r#"{"and":["#, |i| (format!("{{\"x{i}\":1}},"), 2), "0]}")
    }),
    ("a flag of 8 MiB", || {
        filled(&format!("{{\"flags\":{{\"a\":{FLAG_START}\"on\":\""), |_| "x".into(), "\"}}}}")
    }),
    ("texts of flags, packed", || packed_flags(r#"{"on":""#, |_| ("\\n".into(), 0), "\"}", "true")),
    ("objects of flags, packed", || {
        packed_flags(r#"{"on":{"#, |i| (format!("\"{i}\": 1 , "), 1), "\"x\": 1}}", "true")
    }),
    ("lists of flags, packed", || packed_flags(r#"{"on":{"a":["#, |_| ("0,".into(), 1), "0]}}", "true")),
    ("variants of flags", || {
        packed_flags(
            "{",
            |i| (format!("\"{i}\":\"{}\",", "x".repeat(240)), if i < 999 { 0 } else { MAX_ITEM_VALUES }),
            "\"x\":\"\"}",
            "true",
        )
    }),
    ("a million variants of a flag", || {
        filled(&format!("{{\"flags\":{{\"a\":{FLAG_START}"), |i| format!("\"{i}\":1,"), "\"x\":1}}}}")
    }),
    ("20,000 rollouts", || rollouts(|_| (String::new(), 400))),
    ("20,000 rollouts, the last one wrong", || {
        rollouts(|i| (if i == 15_000 { r#""nope":1,"# } else { "" }.into(), 400))
    }),
    ("hostnames, packed", || {
        rollouts(|i| {
            (
                format!(
                    "\"hostnames\":[{}\"a.b\"],",
                    joined(4_000, |n| format!("\"h{i}-{n}.{}.x\",", "y".repeat(44)))
                ),
                0,
            )
        })
    }),
    ("short hostnames, packed", || {
        rollouts(|i| (format!("\"hostnames\":[{}\"a.b\"],", joined(4_000, |n| format!("\"h{i}-{n}\","))), 0))
    }),
    ("matches, packed", || {
        rollouts(|i| {
            (
                format!(
                    "\"matches\":[{}{{}}],",
                    joined(4_000, |n| format!(r#"{{"path":{{"value":"/{i}/{n}"}}}},"#))
                ),
                0,
            )
        })
    }),
    ("hostnames and matches, packed", || {
        rollouts(|i| {
            (
                format!(
                    "\"hostnames\":[{}\"a.b\"],\"matches\":[{}{{}}],",
                    joined(63, |n| format!("\"h{i}-{n}\",")),
                    joined(63, |n| format!(r#"{{"path":{{"value":"/{i}/{n}"}}}},"#))
                ),
                0,
            )
        })
    }),
    ("patterns of paths, packed", || {
        rollouts(|i| {
            (
                format!(
                    "\"matches\":[{}{{}}],",
                    joined(2_000, |n| format!(
                        r#"{{"path":{{"type":"RegularExpression","value":"/{i}/{n}.*"}}}},"#
                    ))
                ),
                0,
            )
        })
    }),
    ("headers of matches, packed", || {
        rollouts(|_| {
            (
                format!(
                    "\"matches\":[{{\"headers\":[{}{{\"name\":\"x\",\"value\":\"\"}}]}}],",
                    joined(6_000, |n| format!(r#"{{"name":"h{n}","value":"x"}},"#))
                ),
                0,
            )
        })
    }),
    ("forced, packed", || {
        rollouts(|_| {
            (
                format!(
                    "\"force\":[{}{{\"when\":true,\"variant\":\"b\"}}],",
                    joined(999, |n| format!(
                        r#"{{"when":{{"==":[{{"var":"request.headers.x"}},"{n}"]}},"variant":"b"}},"#
                    ))
                ),
                0,
            )
        })
    }),
    ("variants and headers, packed", variants_and_headers),
    ("variants of one long name", || {
        rollouts(|_| {
            (
                format!(
                    "\"force\":[{}{{\"when\":true,\"variant\":\"b\"}}],",
                    joined(60, |n| format!(r#"{{"when":true,"variant":"{}{n}"}},"#, "x".repeat(3_000)))
                ),
                0,
            )
        })
    }),
    ("steps of a canary", || {
        one_rollout(
            "canary",
            r#""variant":"b","start":"2026-12-01T09:00:00Z","steps":["#,
            r#"{"percent":1,"hold":"1d"},"#,
            r#"{"percent":1}]"#,
        )
    }),
    ("shares of a split", || {
        one_rollout(
            "ab",
            r#""split":["#,
            r#"{"variant":"b","percent":0},"#,
            r#"{"variant":"a","percent":100}]"#,
        )
    }),
    ("methods of a shadow", || shadow("methods", "\"GET\",", "\"HEAD\"")),
    ("statuses of a guard", || {
        rollouts(|_| {
            (format!("\"guard\":{{\"errors\":{{\"statuses\":\"{}5xx\"}}}},", "500,".repeat(60_000)), 0)
        })
    }),
];

const FLAG: &str = r#"{"state":"ENABLED","variants":{"on":1}}"#;
const FLAG_START: &str = r#"{"state":"ENABLED","variants":{"#;

/// As many parts as there is room for in a document.
fn filled(start: &str, part: impl Fn(usize) -> String, end: &str) -> Vec<u8> {
    let mut text = String::with_capacity(MAX_BYTES);
    text.push_str(start);
    for i in 0.. {
        let part = part(i);
        if text.len() + part.len() + end.len() > MAX_BYTES {
            break;
        }
        text.push_str(&part);
    }
    text.push_str(end);
    text.into_bytes()
}

/// As many parts as there is room for in an item; each comes with how many values it has.
fn item(start: &str, part: &impl Fn(usize) -> (String, usize), end: &str) -> String {
    let (mut text, mut values) = (start.to_owned(), 64);
    for i in 0.. {
        let (part, more) = part(i);
        values += more;
        if text.len() + part.len() + end.len() > MAX_ITEM_BYTES - 400 || values > MAX_ITEM_VALUES {
            break;
        }
        text.push_str(&part);
    }
    text + end
}

fn one(start: &str, part: impl Fn(usize) -> (String, usize), end: &str) -> Vec<u8> {
    item(start, &part, end).into_bytes()
}

/// So many items that are as large as may be: what all of them may have in values.
const PACKED: usize = 32;

fn packed_as(
    container: &str,
    open: &str,
    named: impl Fn(usize) -> String,
    item: &str,
    close: &str,
) -> Vec<u8> {
    let item_bytes = item.len() + 40;
    let count = PACKED.min((MAX_BYTES - 200) / item_bytes);
    let mut text = String::with_capacity(MAX_BYTES);
    text.push_str(&format!("{{\"{container}\":{open}"));
    for i in 0..count {
        text.push_str(if i > 0 { "," } else { "" });
        text.push_str(&named(i));
        text.push_str(item);
    }
    text.push_str(&format!("{close}}}"));
    text.into_bytes()
}

fn packed(container: &str, start: &str, part: impl Fn(usize) -> (String, usize), end: &str) -> Vec<u8> {
    packed_as(container, "[", |_| String::new(), &item(start, &part, end), "]")
}

fn packed_named(container: &str, start: &str, part: impl Fn(usize) -> (String, usize), end: &str) -> Vec<u8> {
    packed_as(container, "{", |i| format!("\"{}\":", name(i)), &item(start, &part, end), "}")
}

fn packed_cohorts(start: &str, part: impl Fn(usize) -> (String, usize), end: &str) -> Vec<u8> {
    packed_named("cohorts", start, part, end)
}

fn packed_flags(start: &str, part: impl Fn(usize) -> (String, usize), end: &str, targeting: &str) -> Vec<u8> {
    let start = format!(r#"{{"state":"ENABLED","variants":{start}"#);
    let end = format!(r#"{end},"targeting":{{"!":{targeting}}}}}"#);
    packed_named("flags", &start, part, &end)
}

/// A name of its own for each number.
fn name(i: usize) -> String {
    format!("n{i}")
}

fn joined(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect()
}

/// Numbers in no order.
fn scattered(i: usize) -> usize {
    (i * 2_654_435_761) % 100_000_007
}

fn ipv4(i: usize) -> String {
    format!("{}.{}.{}.{}", i >> 24 & 255, i >> 16 & 255, i >> 8 & 255, i & 255)
}

/// Twenty thousand members of a container, as far as there is room.
fn items(container: &str, item: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text = String::with_capacity(MAX_BYTES);
    text.push_str(&format!("{{\"{container}\":{{"));
    for i in 0..20_000 {
        let item = item(i);
        if text.len() + item.len() + 3 > MAX_BYTES {
            break;
        }
        text.push_str(if i > 0 { "," } else { "" });
        text.push_str(&item);
    }
    text.push_str("}}");
    text.into_bytes()
}

fn cohorts(expression: impl Fn(usize) -> String) -> Vec<u8> {
    let expression = |i: usize| if i < 19_980 { expression(i) } else { "true".to_owned() };
    items("cohorts", |i| format!("\"{}\":{}", name(i), expression(i)))
}

fn evaluators(expression: impl Fn(usize) -> String) -> Vec<u8> {
    items("$evaluators", |i| {
        format!("\"e{i}\":{}", if i % 100 == 99 { "true".to_owned() } else { expression(i) })
    })
}

/// Evaluators that are compiled for each way in which they are used.
fn evaluators_four_ways() -> Vec<u8> {
    let evaluator = |i: usize| {
        let more = if i % 40 == 39 { "0".to_owned() } else { format!(r#"{{"$ref":"e{}"}}"#, i + 1) };
        format!(r#""e{i}":{{"or":[{more},{{"all":[[1],{more}]}}]}}"#)
    };
    let list = (0..20_000).map(evaluator).collect::<Vec<_>>().join(",");
    let used: Vec<String> = (0..20_000).step_by(40).map(|i| format!(r#"{{"$ref":"e{i}"}}"#)).collect();
    let used = used.join(",");
    format!(
        r#"{{"$evaluators":{{{list}}},"cohorts":{{"c":{{"or":[{used}]}}}},
            "flags":{{"f":{{"state":"ENABLED","variants":{{"on":1}},"targeting":{{"or":[{used}]}}}}}}}}"#
    )
    .into_bytes()
}

fn names_of_all_kinds() -> Vec<u8> {
    let list = |item: &dyn Fn(usize) -> String| (0..20_000).map(item).collect::<Vec<_>>().join(",");
    format!(
        r#"{{"keys":{{{}}},"layers":{{{}}},"holdouts":[{}]}}"#,
        list(&|i| format!(r#""k{i}":{{"from":[{{"header":"x"}}]}}"#)),
        list(&|i| format!(r#""l{i}":{{"key":"k{i}"}}"#)),
        list(&|i| format!(r#"{{"name":"h{i}","key":"k{i}","percent":1}}"#)),
    )
    .into_bytes()
}

fn metadata_of_all_flags() -> Vec<u8> {
    let flags: Vec<String> = (0..90)
        .map(|i| {
            format!(
                r#""f{i}":{{"state":"ENABLED","variants":{{"on":1}},"metadata":{{{}"x":1}}}}"#,
                joined(99, |n| format!("\"{}{n:02}\":1,", "x".repeat(800)))
            )
        })
        .collect();
    format!(
        r#"{{"metadata":{{{}"x":1}},"flags":{{{}}}}}"#,
        joined(99, |n| format!("\"{}{n:03}\":1,", "x".repeat(799))),
        flags.join(",")
    )
    .into_bytes()
}

/// The document that stopped proxies: each of its findings was rendered with all of its place.
fn unknown_operators() -> Vec<u8> {
    let operators = joined(9_000, |i| format!("{{\"x{i}\":1}},"));
    format!(
        r#"{{"flags":{{"{}":{{"state":"ENABLED","variants":{{"on":1}},"targeting":{{"and":[{operators}1]}}}}}}}}"#,
        "x".repeat(100_000)
    )
    .into_bytes()
}

fn rollout(i: usize, more: &str, strategy: &str) -> String {
    format!(r#"{{"name":"r{i}",{more}"variants":{{"a":{{}},"b":{{}}}},"default":"a","strategy":{strategy}}}"#)
}

/// Rollouts that say more, and have as many bytes of space.
fn rollouts(more: impl Fn(usize) -> (String, usize)) -> Vec<u8> {
    let mut text = String::with_capacity(MAX_BYTES);
    text.push_str(r#"{"rollouts":["#);
    for i in 0..20_000 {
        let (more, space) = more(i);
        let padded = more + &" ".repeat(space - space.min(100));
        let rollout =
            rollout(i, &padded, if padded.contains("guard") { AB } else { r#"{"dark":{"variant":"b"}}"# });
        if text.len() + rollout.len() + 3 > MAX_BYTES {
            break;
        }
        text.push_str(if i > 0 { "," } else { "" });
        text.push_str(&rollout);
    }
    text.push_str("]}");
    text.into_bytes()
}

const AB: &str =
    r#"{"ab":{"split":[{"variant":"a","percent":50},{"variant":"b","percent":50}]}},"key":"request""#;

fn one_rollout(strategy: &str, start: &str, part: &str, end: &str) -> Vec<u8> {
    let strategy =
        item(&format!("{{\"{strategy}\":{{{start}"), &|_| (part.to_owned(), 4), &format!("{end}}}}}"));
    format!("{{\"rollouts\":[{}]}}", rollout(0, r#""key":"request","#, &strategy)).into_bytes()
}

fn shadow(member: &str, part: &str, last: &str) -> Vec<u8> {
    let start = format!(r#""shadow":{{"cluster":"c","percent":1,"{member}":["#);
    let more = item(&start, &|_| (part.to_owned(), 1), &format!("{last}]}},"));
    format!("{{\"rollouts\":[{}]}}", rollout(0, &more, r#"{"dark":{"variant":"b"}}"#)).into_bytes()
}

fn variants_and_headers() -> Vec<u8> {
    let headers = joined(99, |n| format!("\"h{n}\":\"\","));
    let variants = joined(100, |n| format!("\"v{n}\":{{\"headers\":{{{headers}\"x\":\"\"}}}},"));
    let variants = variants.trim_end_matches(',');
    let mut text = String::with_capacity(MAX_BYTES);
    text.push_str(r#"{"rollouts":["#);
    for i in 0..60 {
        text.push_str(if i > 0 { "," } else { "" });
        text.push_str(&format!(r#"{{"name":"r{i}","variants":{{{variants}}},"default":"v0","strategy":{{"dark":{{"variant":"v1"}}}}}}"#));
    }
    text.push_str("]}");
    text.into_bytes()
}
