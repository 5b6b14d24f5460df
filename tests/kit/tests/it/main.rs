//! Tests of the test kit.
#![allow(clippy::expect_used, reason = "test code: a panic is a failed test")]

mod browser;
mod database;
mod faulty;
mod process;
mod receiver;
