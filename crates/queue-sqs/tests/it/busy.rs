//! A server of SQS that is busy, refuses, or takes a batch in part.

use postrider_queue::{Buffer as _, BufferedJob, JobId, NewJob, QueueError};
use postrider_queue_sqs::{SqsBuffer, SqsUrl};
use postrider_testkit::{Behaviour, Receiver};
use serde_json::{Value, json};

use crate::{jobs, lane};

const THROTTLED: &str = r#"{"__type":"com.amazonaws.sqs#RequestThrottled","message":"slow down"}"#;

/// A buffer without a FIFO queue, whose next calls are answered like this.
async fn answering(answers: Vec<Behaviour>) -> (Receiver, SqsBuffer) {
    let receiver = Receiver::start().await;
    let found = Behaviour::respond(200, json!({"QueueUrl": "http://127.0.0.1/1/a"}).to_string());
    let attributes = json!({"Attributes": {"MessageRetentionPeriod": "345600", "CreatedTimestamp": "1"}});
    let mut all = vec![found, Behaviour::respond(200, attributes.to_string())];
    all.extend(answers);
    receiver.on("/", Behaviour::Sequence(all));
    let url = format!("sqs://eu-west-1/a?fifo=none&endpoint={}", receiver.url(""));
    let buffer = SqsBuffer::connect_as(&SqsUrl::parse(&url).unwrap(), "id", "secret").await.unwrap();
    (receiver, buffer)
}

async fn put(buffer: &SqsBuffer, jobs: &[NewJob]) -> Result<Vec<JobId>, QueueError> {
    let jobs: Vec<_> = jobs.iter().map(|job| BufferedJob { job, ordered: false }).collect();
    buffer.put(&jobs).await
}

fn failed(entries: &[(usize, bool)]) -> Behaviour {
    let failed: Vec<Value> = entries
        .iter()
        .map(|(place, fault)| json!({"Id": place.to_string(), "SenderFault": fault, "Code": "InternalError"}))
        .collect();
    Behaviour::respond(200, json!({"Successful": [], "Failed": failed}).to_string())
}

fn sent(receiver: &Receiver) -> Vec<usize> {
    let sends = receiver
        .requests()
        .into_iter()
        .filter(|request| request.header("x-amz-target") == Some("AmazonSQS.SendMessageBatch"));
    sends.map(|request| request.json()["Entries"].as_array().unwrap().len()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_server_is_asked_again_and_then_left_alone() {
    let ok = || Behaviour::respond(200, "{}");
    let busy = || Behaviour::respond(400, THROTTLED);
    let (receiver, buffer) = answering(vec![busy(), Behaviour::Status(503), ok(), busy()]).await;
    let jobs = jobs(lane(1), 3);
    assert_eq!(put(&buffer, &jobs).await.unwrap(), []);
    assert_eq!(sent(&receiver), [3, 3, 3]);
    // From now on it is busy for ever.
    let error = put(&buffer, &jobs).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    assert_eq!(sent(&receiver).len(), 3 + 4);
    // Each request is signed over its body.
    for request in receiver.requests() {
        let signature = request.header("authorization").unwrap().to_owned();
        assert!(signature.contains("/eu-west-1/sqs/aws4_request"), "{signature}");
        assert!(signature.contains("x-amz-content-sha256"), "{signature}");
        assert!(!signature.contains("secret"), "{signature}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_batch_leaves_out_is_sent_again() {
    let answers = vec![failed(&[(1, false), (2, true)]), failed(&[]), failed(&[(0, false)])];
    let (receiver, buffer) = answering(answers).await;
    let jobs = jobs(lane(1), 4);
    // The third is refused for good, and is the database's to keep. The second is sent again.
    assert_eq!(put(&buffer, &jobs).await.unwrap(), [jobs[2].id]);
    assert_eq!(sent(&receiver), [4, 1]);
    // One that is left out again and again is tried later, by the relay.
    assert!(put(&buffer, &jobs[..1]).await.unwrap_err().is_unavailable());
    assert_eq!(sent(&receiver).len(), 2 + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_jobs_go_in_batches_of_ten() {
    let (receiver, buffer) = answering(vec![Behaviour::respond(200, "{}")]).await;
    assert_eq!(put(&buffer, &jobs(lane(1), 205)).await.unwrap(), []);
    let mut sent = sent(&receiver);
    sent.sort_unstable();
    assert_eq!(sent.iter().sum::<usize>(), 205);
    assert_eq!((sent.len(), sent[0]), (21, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_access_is_said() {
    let receiver = Receiver::start().await;
    let denied = r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"not you"}"#;
    receiver.on("/", Behaviour::respond(400, denied));
    let url = SqsUrl::parse(&format!("sqs://eu-west-1/a?endpoint={}", receiver.url(""))).unwrap();
    let error = SqsBuffer::connect_as(&url, "id", "secret").await.unwrap_err().to_string();
    assert_eq!(error, "SQS refused GetQueueUrl: AccessDeniedException: not you");
    let url = SqsUrl::parse("sqs://eu-west-1/a?endpoint=http://127.0.0.1:1").unwrap();
    let error = SqsBuffer::connect_as(&url, "id", "secret").await.unwrap_err().to_string();
    assert_eq!(error, "cannot reach SQS");
}
