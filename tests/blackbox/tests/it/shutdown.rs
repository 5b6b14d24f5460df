//! SIGTERM and Ctrl-C: requests in flight end, or their jobs are released.

use std::time::{Duration, Instant};

use postrider_testkit::{Behaviour, Receiver, eventually, receiver::Gate};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::client::{attempts, delivery_of, dispatch, ended, idle, read, subscribe};
use crate::deployment::{ADMIN_KEY, DEADLINE, Deployment, Member, program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_in_flight_ends_before_its_worker() {
    for signal in ["TERM", "INT"] {
        let mut deployment = Deployment::start(1).await;
        let api = deployment.api.clone();
        let receiver = Receiver::start().await;
        let gate = Gate::closed();
        receiver.on("/hook", Behaviour::respond(200, "in the end").behind(&gate));
        subscribe(&api, &receiver.url("/hook")).await;
        let event = dispatch(&api, "order.created").await;
        receiver.wait_for(1, DEADLINE).await;

        let worker = &mut deployment.workers[0].process;
        worker.signal(signal).await;
        worker.wait_for_line(|line| line.contains("claiming stopped"), DEADLINE).await;
        let later = dispatch(&api, "order.paid").await;
        gate.open();
        let status = worker.wait(DEADLINE).await;
        assert!(status.success(), "SIG{signal}: {status}");

        let delivery = delivery_of(&api, &event).await;
        assert_eq!(
            (&delivery["status"], &delivery["attempts"]),
            (&json!("succeeded"), &json!(1)),
            "SIG{signal}"
        );
        assert_eq!(attempts(&api, &delivery).await[0]["response"]["body"], "in the end");
        assert_eq!(receiver.requests().len(), 1);
        // An event after the signal waits for the next worker.
        assert_eq!(delivery_of(&api, &later).await["status"], "pending");
        assert_eq!(read(&api, "/v1/stats").await["queue"]["running"], 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_that_outlast_the_grace_period_are_released() {
    let grace = [("POSTRIDER_SHUTDOWN_GRACE", "1s")];
    let mut deployment = Deployment::with(1, &grace).await;
    let api = deployment.api.clone();
    let receiver = Receiver::start().await;
    receiver.on("/hook", Behaviour::Hang);
    subscribe(&api, &receiver.url("/hook")).await;
    let event = dispatch(&api, "order.created").await;
    receiver.wait_for(1, DEADLINE).await;

    let asked = Instant::now();
    deployment.workers.remove(0).stop().await;
    // Much less than the 30 s that the attempt itself may take.
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    let delivery = delivery_of(&api, &event).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("pending"), &json!(0)), "{delivery}");
    assert_eq!(attempts(&api, &delivery).await, Vec::<Value>::new());
    let queue = read(&api, "/v1/stats").await["queue"].take();
    assert_eq!((&queue["ready"], &queue["running"]), (&json!(1), &json!(0)), "{queue}");

    receiver.on("/hook", Behaviour::Status(200));
    deployment.add_worker(&grace).await;
    let delivery = ended(&api, &event).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("succeeded"), &json!(1)), "{delivery}");
    let attempts = attempts(&api, &delivery).await;
    assert_eq!((attempts.len(), &attempts[0]["number"]), (1, &json!(1)));
    idle(&api).await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_request_in_flight_ends_before_its_server() {
    const BODY: &str = r#"{"event":"order.created","data":{"sent":"in two parts"}}"#;
    for signal in ["TERM", "INT"] {
        let mut deployment = Deployment::start(0).await;
        let address = deployment.server.api_address().await;
        let mut connection = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
            content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            BODY.len()
        );
        let (first, second) = BODY.split_at(20);
        connection.write_all(format!("{head}{first}").as_bytes()).await.unwrap();
        // An answer to another request shows that the server has had time to read the first part.
        assert_eq!(deployment.api.get("/readyz").await.0, 200);

        let server = &mut deployment.server.process;
        server.signal(signal).await;
        server.wait_for_line(|line| line.contains("stopping"), DEADLINE).await;
        // The server accepts no new connection.
        eventually(DEADLINE, || async { TcpStream::connect(address).await.is_err().then_some(()) }).await;
        assert!(server.is_running());
        connection.write_all(second.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 202 "), "SIG{signal}: {answer}");
        let status = server.wait(DEADLINE).await;
        assert!(status.success(), "SIG{signal}: {status}");

        let again = Member::start(&program("postrider-server", deployment.database.url(), &[])).await;
        let events = read(&again.api().await, "/v1/events").await;
        assert_eq!(events["data"][0]["event"], "order.created", "the acknowledged event is stored");
        again.stop().await;
    }
}

/// An idle server and an idle worker wait neither for the grace period nor for clients with open connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_programs_end_at_once() {
    let mut deployment = Deployment::start(1).await;
    // The client keeps a connection open in its pool.
    read(&deployment.api, "/v1/stats").await;
    let asked = Instant::now();
    for member in std::iter::once(&mut deployment.server).chain(&mut deployment.workers) {
        member.process.signal("INT").await;
        let status = member.process.wait(DEADLINE).await;
        assert!(status.success(), "{status}: {}", member.output());
    }
    // The grace period is 30 s.
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
}
