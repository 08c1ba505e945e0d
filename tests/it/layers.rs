//! The map of the crate, held against its `use` lines.
//!
//! Every arrow points down: a module may use modules of lower layers, and its own
//! children and siblings below the same top-level module.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::read_text;
use source::sources;

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
    ("keyring::key_problem", 1),
    ("keyring::listing", 1),
    ("keyring::roster", 1),
    ("keyring::slot", 1),
    ("keyring::snapshot", 1),
    ("keyring::usage", 1),
    ("keyring::schedule", 1),
    // Leaves.
    ("secret", 0),
    ("key_id", 0),
    ("config::redact", 0),
    ("proto", 0),
    ("instruments", 0),
    ("chance", 0),
    ("mutation", 0),
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
    for (module, targets) in source::arrows(&sources()) {
        let layer = layer(&module).unwrap_or_else(|| panic!("{module} is not on the map"));
        for used in targets {
            let below = self::layer(&used).unwrap_or_else(|| panic!("{used} is not on the map"));
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
fn no_files_use_each_other_in_a_circle() {
    let arrows = source::arrows(&sources());
    let mut left: BTreeMap<&str, BTreeSet<&str>> = arrows
        .iter()
        .map(|(module, targets)| {
            (
                module.as_str(),
                targets.iter().map(String::as_str).collect(),
            )
        })
        .collect();
    // What uses nothing that is left is in no circle, and neither is what nothing uses.
    loop {
        let before = left.len();
        let names: BTreeSet<&str> = left.keys().copied().collect();
        left.retain(|_, targets| targets.iter().any(|target| names.contains(target)));
        let used: BTreeSet<&str> = left.values().flatten().copied().collect();
        left.retain(|module, _| used.contains(module));
        if left.len() == before {
            break;
        }
    }
    let names: BTreeSet<&str> = left.keys().copied().collect();
    let shown = left.iter().map(|(module, targets)| {
        let targets: Vec<&str> = targets.intersection(&names).copied().collect();
        format!("{module} -> {}", targets.join(", "))
    });
    let shown: Vec<String> = shown.collect();
    assert!(shown.is_empty(), "\n{}", shown.join("\n"));
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
    for (module, source::Source { text, .. }) in sources() {
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

/// `clippy.toml` keeps the system's clocks and dice out; this is what it cannot see.
#[test]
fn time_and_chance_are_arguments_of_what_simulations_run() {
    for (module, source::Source { text, .. }) in sources() {
        let core = module.starts_with("keyring");
        if !core && !module.starts_with("openstack") && !module.starts_with("config::watch") {
            continue;
        }
        let text: Vec<&str> = code(&text).collect();
        let text = text.join("\n");
        let excused = text.contains("clippy::disallowed_methods");
        assert_eq!(excused, module == "keyring::clock", "{module}");
        // The age of a key goes on while the machine, and the runtime, are suspended.
        assert!(!core || !text.contains("tokio::time::Instant"), "{module}");
        for choice in text.split("select! {").skip(1) {
            let first = choice.trim_start().lines().next();
            assert_eq!(first, Some("biased;"), "{module}");
        }
    }
}

#[test]
fn only_the_memory_module_is_unsafe() {
    for (module, source::Source { text, .. }) in sources() {
        let found = code(&text).any(|line| line.contains("unsafe "));
        assert!(
            !found || module == "secret::memory",
            "{module} has unsafe code"
        );
    }
}

#[test]
fn files_stay_readable() {
    for (module, source::Source { text, .. }) in sources() {
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

fn code(text: &str) -> impl Iterator<Item = &str> {
    let production = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    production
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}
