//! Tests by behaviour, each topic a module: most run the real program, on port 0. `cargo test --test it TOPIC::` runs one.
//!
//! They share a process: none changes its environment or its current directory, and each keeps its files in a folder of its own.
//! Executables are written by `support::program::install`. What needs a process, or the machine, for itself is in `tests/alone` and
//! `tests/allocations.rs`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod support;

mod acme;
mod acme_account;
mod acme_alpn;
mod acme_dns;
mod acme_staging;
mod acme_trials;
mod acme_users;
mod admin;
mod app_side;
mod apply;
mod autobahn;
mod boards;
mod bundle_command;
mod bundle_open;
mod bundle_refuses;
mod carry_over;
mod client_rules;
mod connections_handed_over;
mod console;
mod corpus_replay;
mod demo_browser;
mod descriptor_store;
mod docs;
mod doctor;
mod doctor_gallery;
mod doctor_reach;
mod doctor_renewal;
mod drains;
mod hand_over;
mod handshake_fragments;
mod hostile_clients;
mod import;
mod inherited_sockets;
mod leaks;
mod leaks_commands;
mod leaks_findings;
mod leaks_remote;
mod leaks_renew;
mod limits;
mod local;
mod origins;
mod plain_listener;
mod polling_exchanges;
mod post_quantum;
mod proxy_protocol;
mod records;
mod reloads_and_drains;
mod renewal;
mod resumption;
mod root_replaces_bundle;
mod sandbox;
mod scanners;
mod setup;
mod setup_local;
mod site;
mod site_keys;
mod smuggling;
mod socketio_interop;
mod socketio_rust;
mod sources;
mod status_check;
mod sticky;
mod the_story;
mod thresholds;
mod tls_hellos;
mod tls_records;
mod tools;
mod unit_files;
mod upgrade_relays;
mod upstreams;
mod websocket_frames;
