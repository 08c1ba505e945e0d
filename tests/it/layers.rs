//! The map of the crate, held against its `use` lines.
//!
//! Every arrow points down: a module may use modules of lower layers, and its own
//! children and siblings below the same top-level module.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Module and layer. Longer names win, so a file of a directory can be placed
/// elsewhere than its parent.
const LAYERS: &[(&str, u8)] = &[
    // What a person runs, and the process that serves: the only ones that may name edges.
    ("main", 5),
    ("cli", 5),
    ("serve", 4),
    // Edges, which never use each other.
    ("kms", 3),
    ("openstack", 3),
    ("config::files", 3),
    ("config::watch", 3),
    ("log", 3),
    ("audit::writer", 3),
    ("metrics", 3),
    // Core.
    ("keyring", 2),
    // Pure.
    ("envelope", 1),
    ("audit", 1),
    ("config", 1),
    ("keyring::snapshot", 1),
    ("keyring::schedule", 1),
    // Leaves.
    ("secret", 0),
    ("key_id", 0),
    ("proto", 0),
    ("instruments", 0),
    ("chance", 0),
    ("log::background", 0),
    ("log::error_chain", 0),
    ("log::throttle", 0),
];

/// Crates that the core and everything below it must not know.
const EDGE_CRATES: &[&str] = &[
    "tonic",
    "hyper",
    "hyper_util",
    "hyper_rustls",
    "rustls",
    "notify",
    "signal_hook",
];

#[test]
fn every_arrow_points_down() {
    let mut wrong = Vec::new();
    for (module, text) in modules() {
        let layer = layer(&module).unwrap_or_else(|| panic!("{module} is not on the map"));
        for used in used_modules(&text) {
            let Some(below) = self::layer(&used) else {
                continue;
            };
            let top = |name: &str| name.split("::").next().map(str::to_owned);
            let family = top(&module) == top(&used);
            if below > layer || (below == layer && !family && below != 1) {
                wrong.push(format!(
                    "{module} (layer {layer}) uses {used} (layer {below})"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_documentation_shows_the_same_map() {
    let lib = read_text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let map = lib.split("```").nth(1).expect("a map");
    let names = ["leaves", "pure", "core", "edges", "process", "command"];
    let mut shown: BTreeMap<u8, String> = BTreeMap::new();
    let mut layer = None;
    for line in map.lines() {
        let line = line.trim_start_matches("//! ");
        let begins = names.iter().position(|name| line.starts_with(name));
        layer = begins.or(layer);
        if let Some(layer) = layer.and_then(|layer| u8::try_from(layer).ok()) {
            *shown.entry(layer).or_default() += line;
        }
    }
    for (module, layer) in LAYERS {
        let name = module.split("::").last().unwrap_or_default();
        let line = &shown[layer];
        assert!(
            line.split(|one: char| !(one.is_alphanumeric() || one == '_'))
                .any(|word| word == name),
            "{module} is not in {line:?}"
        );
    }
}

#[test]
fn the_core_knows_no_transport() {
    for (module, text) in modules() {
        if layer(&module).unwrap_or_else(|| panic!("{module} is not on the map")) > 2
            || module.starts_with("proto")
        {
            continue;
        }
        for name in EDGE_CRATES {
            let used = code(&text).any(|line| {
                // Parsing PEM is no transport, although rustls re-exports it.
                line.replace("rustls::pki_types", "")
                    .contains(&format!("{name}::"))
            });
            assert!(!used, "{module} uses {name}");
        }
    }
}

#[test]
fn only_the_memory_module_is_unsafe() {
    for (module, text) in modules() {
        let found = code(&text).any(|line| line.contains("unsafe "));
        assert!(
            !found || module == "secret::memory",
            "{module} has unsafe code"
        );
    }
}

#[test]
fn files_stay_readable() {
    for (module, text) in modules() {
        let production = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        let lines = production.lines().count();
        assert!(lines <= 400, "{module} has {lines} lines: split it");
    }
}

fn layer(module: &str) -> Option<u8> {
    let mut name = module;
    loop {
        if let Some((_, layer)) = LAYERS.iter().find(|(known, _)| *known == name) {
            return Some(*layer);
        }
        name = name.rsplit_once("::")?.0;
    }
}

/// Module name and text of every source file but `lib.rs`.
fn modules() -> BTreeMap<String, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut directories = vec![source.clone()];
    while let Some(directory) = directories.pop() {
        for entry in directory.read_dir().expect("a directory") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path
                .strip_prefix(&source)
                .expect("below it")
                .with_extension("");
            let name = name.to_string_lossy().replace('/', "::");
            let text = read_text(&path);
            // Files of tests belong to the module that they test.
            let of_tests = name.ends_with("::tests") || name.contains("::tests::");
            if name != "lib" && !of_tests {
                found.insert(name, text);
            }
        }
    }
    assert!(found.len() > 10, "the sources were not found");
    found
}

/// Test data of our own, so no bound is needed.
fn read_text(path: &Path) -> String {
    let lines = BufReader::new(File::open(path).expect("a file")).lines();
    lines.map(|line| line.expect("text") + "\n").collect()
}

fn code(text: &str) -> impl Iterator<Item = &str> {
    let production = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    production
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// `crate::a::b` wherever it stands, `{}` groups after `crate::` included.
fn used_modules(text: &str) -> Vec<String> {
    let text: String = code(text).collect::<Vec<_>>().join("\n");
    let mut used = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let group = group.split("};").next().unwrap_or_default();
            used.extend(group.split(',').map(|item| path_of(item.trim())));
        } else {
            used.push(path_of(rest));
        }
    }
    used
}

fn path_of(text: &str) -> String {
    let end = text
        .find(|character: char| !(character.is_alphanumeric() || "_:".contains(character)))
        .unwrap_or(text.len());
    let lower = text[..end]
        .split("::")
        .take_while(|part| part.chars().next().is_some_and(char::is_lowercase))
        .collect::<Vec<_>>();
    lower.join("::")
}
