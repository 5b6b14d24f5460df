//! Keeps the jobs that Postrider's workers have no room for on Amazon SQS.
//!
//! [`SqsBuffer`] is a [`Buffer`](postrider_queue::Buffer): a standard queue, and beside it a FIFO queue for the jobs of
//! ordered lanes. A [`BufferedQueue`](postrider_queue::BufferedQueue) puts jobs into it after the commit and takes them out
//! while workers have room; limits, delays, retries and leases stay in the database.
//!
//! ```no_run
//! use std::sync::Arc;
//! use postrider_queue_sqs::{SqsBuffer, SqsUrl};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let buffer = SqsBuffer::connect(&SqsUrl::parse("sqs://eu-west-1/postrider")?).await?;
//! for warning in buffer.warnings() {
//!     eprintln!("{warning}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It speaks SQS's JSON protocol over hyper, and leaves credentials and signatures to `reqsign`: environment variables, profiles,
//! web identities, containers and EC2 instances.
//!
//! | module | what it holds |
//! |---|---|
//! | `url` | the URL of the queues |
//! | `client` | signed requests, repeated while SQS is busy |
//! | `connection` | connections, with TLS |
//! | `credentials` | what finds credentials |
//! | `calls` | the calls of SQS and their answers |
//! | `message` | a job as a message |
//! | `check` | what is checked when a program starts |
//! | `buffer` | putting jobs in and taking them out |

mod buffer;
mod calls;
mod check;
mod client;
mod connection;
mod credentials;
mod error;
mod message;
mod url;

pub use buffer::SqsBuffer;
pub use check::Warning;
pub use error::SqsError;
pub use url::{SqsUrl, SqsUrlError};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
