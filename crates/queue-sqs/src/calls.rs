//! The calls of SQS that are used, and what is read of their answers.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetQueueUrl<'a> {
    pub(crate) queue_name: &'a str,
    #[serde(rename = "QueueOwnerAWSAccountId", skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct QueueUrl {
    pub(crate) queue_url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetQueueAttributes<'a> {
    pub(crate) queue_url: &'a str,
    pub(crate) attribute_names: [&'static str; 1],
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct QueueAttributes {
    pub(crate) attributes: HashMap<String, String>,
}

impl QueueAttributes {
    /// An attribute that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.attributes.get(name)?.parse().ok()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SendMessageBatch<'a> {
    pub(crate) queue_url: &'a str,
    pub(crate) entries: Vec<NewMessage>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NewMessage {
    /// The place in the batch.
    pub(crate) id: String,
    pub(crate) message_body: String,
    pub(crate) message_group_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message_deduplication_id: Option<String>,
}

/// The answer to each call with several entries.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct BatchAnswer {
    pub(crate) failed: Vec<FailedEntry>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct FailedEntry {
    pub(crate) id: String,
    pub(crate) sender_fault: bool,
    pub(crate) code: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ReceiveMessage<'a> {
    pub(crate) queue_url: &'a str,
    pub(crate) max_number_of_messages: u32,
    pub(crate) wait_time_seconds: u64,
    pub(crate) visibility_timeout: u64,
    pub(crate) attribute_names: [&'static str; 1],
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Received {
    pub(crate) messages: Vec<ReceivedMessage>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ReceivedMessage {
    pub(crate) message_id: String,
    pub(crate) receipt_handle: String,
    pub(crate) body: String,
    pub(crate) attributes: HashMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeleteMessageBatch<'a> {
    pub(crate) queue_url: &'a str,
    pub(crate) entries: Vec<DeletedEntry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeletedEntry<'a> {
    pub(crate) id: String,
    pub(crate) receipt_handle: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ChangeMessageVisibility<'a> {
    pub(crate) queue_url: &'a str,
    pub(crate) receipt_handle: &'a str,
    pub(crate) visibility_timeout: u64,
}

/// The answer to a call that says nothing.
#[derive(Deserialize)]
pub(crate) struct Nothing {}
