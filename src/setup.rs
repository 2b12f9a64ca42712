//! `sanedge setup`: from a board with an app to a working `wss://`, step by step.
//!
//! What needs the network is asked by a child, this program again without root's rights. Each step looks at what is there first,
//! so it can be repeated: an interrupted run leaves nothing that the next one does not finish. It never stops another program.

pub(crate) mod account;
pub(crate) mod again;
pub(crate) mod child;
pub(crate) mod edit;
pub(crate) mod look;
pub(crate) mod ports;
pub mod problem;
pub(crate) mod programs;
pub(crate) mod units;
