//! The integration tests: one binary, one module for each subject.
#![cfg(test)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests may read clocks and whole files, and run what they like"
)]

mod access_rules;
mod audit;
mod check;
mod cli;
mod config;
mod container;
mod credential_end;
mod ends;
mod envelope;
mod faults;
mod foreign_client;
mod fuzz;
mod hostile;
mod layers;
mod live;
mod log;
mod metrics;
mod next_step;
mod openstack_client;
mod openstack_faults;
mod openstack_logs;
mod openstack_proxy;
mod openstack_replies;
mod openstack_tls;
mod openstack_tls_servers;
mod openstack_vectors;
mod outage;
mod output;
mod padding_oracle;
mod refused;
mod ring;
mod serve;
mod silence;
mod socket;
mod support;
mod wrong_field;
