//! Tests of the workspace's tasks.
#![allow(clippy::expect_used, reason = "test code: a panic is a failed test")]

mod postgres;
