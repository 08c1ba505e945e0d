//! `barbican-kms`: a Kubernetes KMS v2 sidecar with its key in OpenStack Barbican.
//!
//! # Map
//!
//! Every arrow points down; `tests/it/layers.rs` holds the `use` lines against it.
//!
//! ```text
//! command   main -> cli              argv, exit codes, what is printed
//! process   app   check   rotate     these two lines alone may name edges
//! edges     kms (+ socket)   openstack (http, keystone, barbican)   metrics   probe
//!           config::watch   config::files   audit::writer
//!           telemetry   signals   hardening
//! core      keyring (Keyring: the readers; refresh::Refresher: the single writer)
//! pure      envelope   keyring::snapshot, ::schedule   config   audit
//!           no I/O, no async, no clock
//! leaves    secret   key_id   instruments   said   chance   paint   error_chain   proto
//! ```
//!
//! Edges never use each other, but for the watcher, which reads by `config::files`.
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

pub mod app;
pub mod audit;
pub mod chance;
pub mod check;
pub mod cli;
pub mod config;
pub mod envelope;
pub mod error_chain;
pub mod hardening;
pub mod instruments;
pub mod key_id;
pub mod keyring;
pub mod kms;
pub mod metrics;
pub mod openstack;
pub mod paint;
pub mod probe;
pub mod proto;
pub mod rotate;
pub mod said;
pub mod secret;
pub mod signals;
pub mod telemetry;
