use serde_json::{Value, json};

use super::{YamlProblem, parse_json};

fn read(text: &str) -> Result<Value, (String, YamlProblem)> {
    parse_json(text).map_err(|(at, problem)| (at.to_string(), problem))
}

#[test]
fn plain_scalars_are_what_kubernetes_reader_says() {
    for (scalars, expected) in [
        (
            "[1, -1, +1, 0, 1_000, 0x1F, 0o17, 0b11, -0x10]",
            json!([1, -1, 1, 0, 1000, 31, 15, 3, -16]),
        ),
        (
            "[18446744073709551615, -9223372036854775808]",
            json!([u64::MAX, i64::MIN]),
        ),
        (
            "[1.5, .5, 5., 1e3, 0644, 08, 1_0.5, ._5]",
            json!([1.5, 0.5, 5.0, 1000.0, 420, 8.0, 10.5, "._5"]),
        ),
        (
            "[1e999, -.nan, ~, null, ]",
            json!(["1e999", "-.nan", null, null]),
        ),
        (
            "[true, Yes, off, n, yEs]",
            json!([true, true, false, false, "yEs"]),
        ),
        (
            "[inf, nan, 1__0, _1, 0x, 1:30, 2001-01-01, a b]",
            json!(["inf", "nan", 10, "_1", "0x", "1:30", "2001-01-01", "a b"]),
        ),
        (
            "['1', \"true\", '~', !!str 1, ! 1]",
            json!(["1", "true", "~", "1", "1"]),
        ),
        (
            "[!!int '5', !!float 5, !!bool 'yes', !!null x, !other 5]",
            json!([5, 5.0, true, null, 5]),
        ),
    ] {
        assert_eq!(read(scalars), Ok(expected), "{scalars}");
    }
}

#[test]
fn an_empty_text_is_null_and_json_is_yaml() {
    for text in ["", "\n", "---\n", "# a comment\n", "\u{feff}"] {
        assert_eq!(read(text), Ok(Value::Null), "{text:?}");
    }
    assert_eq!(
        read("\u{feff}{\"a\": [1, 2.5, null, \"\\u00e9\"], \"b\": {}}"),
        Ok(json!({"a": [1, 2.5, null, "\u{e9}"], "b": {}}))
    );
}

#[test]
fn marks_of_documents_around_the_only_one_do_no_harm() {
    for text in ["---\na: 1\n", "a: 1\n---\n", "--- {a: 1}\n...\n---\n"] {
        assert_eq!(read(text), Ok(json!({"a": 1})), "{text}");
    }
    assert_eq!(read("! {a: ! b}\n"), Ok(json!({"a": "b"})));
}

#[test]
fn what_is_written_wins_over_merge_keys_and_of_these_the_first() {
    let text = "a: &a {x: 1, y: 1, z: 1}\nb: &b {y: 2, w: 2}\nc:\n  <<: [*b, *a]\n  z: 3\n\
                d: {<<: ~, '<<': 4}\n";
    let value = read(text).expect("valid");
    assert_eq!(value["c"], json!({"w": 2, "x": 1, "y": 2, "z": 3}));
    assert_eq!(value["d"], json!({"<<": 4}));
}

#[test]
fn an_alias_stands_for_the_last_anchor_of_its_name() {
    let text = "- &a {k: [1]}\n- &b x\n- *a\n- {*b : *b}\n- &a 2\n- *a\n";
    assert_eq!(
        read(text),
        Ok(json!([{"k": [1]}, "x", {"k": [1]}, {"x": "x"}, 2, 2]))
    );
}

#[test]
fn what_cannot_be_read_is_refused_at_its_place() {
    let kind = YamlProblem::Shape;
    for (text, at, problem) in [
        ("a: [1\n", "1:4", YamlProblem::Syntax),
        ("a: *b\n", "1:4", YamlProblem::Syntax),
        ("a: {b: 1, 'b': 2}\n", "1:11", YamlProblem::DuplicateKey),
        ("a: 1\n---\nb: 2\n", "3:1", YamlProblem::SeveralDocuments),
        ("? [a]\n: 1\n", "1:3", kind("a string")),
        ("~: 1\n", "1:1", kind("a string")),
        ("<<: 1\n", "1:5", kind("a mapping, `key: value`")),
        ("a: !!int x\n", "1:10", kind("a number")),
        ("a: .inf\n", "1:4", kind("a finite number")),
        ("a: !!float .nan\n", "1:12", kind("a finite number")),
        ("a: !!bool x\n", "1:11", YamlProblem::Boolean),
        ("a: !!map []\n", "1:10", kind("what its tag says")),
        ("a: !!seq x\n", "1:10", kind("what its tag says")),
        (
            "a: !!binary aGk=\n",
            "1:13",
            kind("a string without a tag such as `!!int`"),
        ),
    ] {
        assert_eq!(read(text), Err((at.to_owned(), problem)), "{text}");
    }
}

#[test]
fn nothing_grows_beyond_its_bounds() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let many = |count| format!("[{}]", "x, ".repeat(count));
    let chars = |count| format!("&a '{}'", "x".repeat(count));
    assert!(read(&nested(32)).is_ok());
    assert!(read(&many(49_000)).is_ok());
    assert!(read(&format!("a: &a {}\nb: *a\n", many(16_000))).is_ok());
    for text in [
        nested(33),
        format!("a: &a {}\nb: [[[*a]]]\n", nested(29)),
        many(50_000),
        format!("a: &a {}\nb: [*a, *a]\n", many(16_000)),
        format!("a: {}\nb: [{}]\n", chars(1_000_000), "*a, ".repeat(4)),
        "&a [*a]".to_owned(),
        "a: &a {b: *a}".to_owned(),
        "&a {<<: *a}".to_owned(),
    ] {
        let refused = read(&text).expect_err("too large");
        assert_eq!(refused.1, YamlProblem::TooLarge, "{text:.40}");
    }
}
