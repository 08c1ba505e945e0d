//! `barbican-kms`: a Kubernetes KMS v2 sidecar with its key in OpenStack Barbican.
//!
//! # Map
//!
//! Every arrow points down; `tests/it/layers.rs` holds the `use` lines against it.
//!
//! ```text
//! command   main -> cli              arguments, exit codes, check, rotate, probe, status
//! process   serve                    builds everything, then serves until a signal
//! edges     kms (+ socket)   openstack (http, keystone, barbican)   metrics
//!           config::watch   config::files   audit::writer   log
//! core      keyring (Keyring: the readers; refresh::Refresher: the single writer)
//! pure      envelope   config   audit
//!           keyring::snapshot, ::slot, ::key_problem, ::usage, ::schedule, ::listing, ::roster
//!           no I/O, no async, no clock
//! leaves    secret   key_id   instruments   chance   proto   mutation   config::redact
//!           log::error_chain, ::throttle, ::background
//! ```
//!
//! Only `cli` and `serve` may name several edges. Edges never use each other, but for
//! the watcher, which reads by `config::files`.
//!
//! # Two walks
//!
//! **Decrypt**, the hot path, has no I/O and no lock across an await:
//! socket -> [`kms`] parses the [`key_id::KeyId`] -> [`keyring::Keyring::key`]
//! clones an `Arc` out of the snapshot -> [`envelope::open`] -> reply. A miss is
//! handed to the refresher's task, which finishes the download even when the
//! caller has gone.
//!
//! **A configuration change** goes one way and ends in one swap: the watcher reads
//! and parses every file into a [`config::Live`] -> the refresher connects, loads
//! every key of the new ring, and only then publishes one new snapshot. Calls in
//! flight finish on their old `Arc`; the last drop wipes the old key.
//!
//! Where a container in Barbican lists the keys, its reading takes the same way: the
//! refresher's follower reads it -> the roster says which keys there are and which is the
//! write key -> a key that is new is loaded, and one new snapshot is published.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests may read clocks, and begin where they like"
    )
)]

pub mod audit;
pub mod chance;
pub mod cli;
pub mod config;
pub mod envelope;
pub mod instruments;
pub mod key_id;
pub mod keyring;
pub mod kms;
pub mod log;
pub mod metrics;
mod mutation;
pub mod openstack;
pub mod proto;
pub mod secret;
pub mod serve;
