//! What tests share: accounts in memory, one of which keeps versions, a clock that is set by hand, stores that fail, and one suite for each
//! trait of the engine. Product code never depends on this crate.

pub mod account;
pub mod clock;
pub mod fault;
pub mod suites;
pub mod versioned;
