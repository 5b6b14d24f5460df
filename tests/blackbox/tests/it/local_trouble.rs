//! A worker that has run out of file descriptors.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use postrider_testkit::{Behaviour, Receiver, eventually};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use tokio::net::UdpSocket;

use crate::client::{delivery_of, dispatch, ended, read, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment, Member, program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_descriptors_blames_no_receiver_and_recovers() {
    let deployment = Deployment::start(1).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    let subscriber = subscribe_with(api, json!({"url": receiver.url("/"), "events": ["*"]})).await;
    let worker = &deployment.workers[0];
    let pid = Pid::from_raw(worker.process.id().unwrap().try_into().unwrap()).unwrap();
    let ready = async || worker.telemetry.get("/readyz").await.0;
    assert_eq!(ready().await, 200);

    // What is open stays open, and nothing else can be opened.
    let none = Rlimit { current: Some(1), ..rustix::process::getrlimit(Resource::Nofile) };
    let limit = prlimit(Some(pid), Resource::Nofile, none).unwrap();
    let event = dispatch(api, "order.created").await;
    let said = "requests cannot be made";
    eventually(DEADLINE, || async { worker.output().contains(said).then_some(()) }).await;
    let delivery = delivery_of(api, &event).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("pending"), &json!(0)), "{delivery}");

    prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    assert_eq!(ready().await, 503);
    let delivery = ended(api, &event).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("succeeded"), &json!(1)), "{delivery}");
    eventually(DEADLINE, || async { (ready().await == 200).then_some(()) }).await;
    assert_eq!(worker.output().matches(said).count(), 1, "{}", worker.output());
    let shown = read(api, &format!("/v1/subscribers/{}", text(&subscriber["id"]))).await;
    assert_eq!(shown["breaker"]["failures"], json!(0), "{shown}");
    deployment.stop().await;
}

/// With few descriptors and many receivers that hang, a healthy one gets everything, and nobody fails for want of a
/// descriptor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_descriptors_are_enough_for_many_receivers_that_hang() {
    const HANGING: usize = 200;
    const EVENTS: usize = 30;
    let mut deployment = Deployment::start(0).await;
    let receiver = Receiver::start().await;
    for number in 0..HANGING {
        let path = format!("/hang/{number}");
        receiver.on(&path, Behaviour::Hang);
        let subscriber = json!({"url": receiver.url(&path), "events": ["slow"]});
        subscribe_with(&deployment.api, subscriber).await;
    }
    let healthy = json!({"url": receiver.url("/fine"), "events": ["fine"]});
    let healthy = subscribe_with(&deployment.api, healthy).await;
    let own = [("POSTRIDER_REQUEST_TIMEOUT", "2s")];
    let worker = program("postrider-worker", deployment.database.url(), &own).with_descriptors(128);
    deployment.workers.push(Member::start(&worker).await);
    let api = &deployment.api;
    for _ in 0..4 {
        dispatch(api, "slow").await;
    }
    let began = Instant::now();
    for _ in 0..EVENTS {
        dispatch(api, "fine").await;
    }
    eventually(2 * DEADLINE, || async { (receiver.requests_to("/fine").len() >= EVENTS).then_some(()) })
        .await;
    println!("{EVENTS} events beside {HANGING} receivers that hang: {:?}", began.elapsed());
    let fine = async || read(api, "/v1/stats?event=fine").await["deliveries"]["succeeded"].take();
    eventually(2 * DEADLINE, || async { (fine().await == json!(EVENTS)).then_some(()) }).await;
    let series = read(api, "/v1/stats/series?step=1h").await;
    let kinds = series["total"]["failed_by_kind"].as_object().unwrap();
    assert!(kinds.keys().all(|kind| kind.starts_with("timeout_")), "{series}");
    let shown = read(api, &format!("/v1/subscribers/{}", text(&healthy["id"]))).await;
    assert_eq!(shown["breaker"]["failures"], json!(0), "{shown}");
    deployment.stop().await;
}

/// Gives every name the address 127.0.0.1 (RFC 1035, §4.1).
async fn serve_names(address: SocketAddr) {
    let socket = UdpSocket::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            let question = &query[12..length];
            let is_ipv4 = question[question.len() - 3] == 1;
            let mut answer = query[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
            answer.extend(question);
            if is_ipv4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, from).await;
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_name_servers_nothing_is_attempted() {
    let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let deployment = Deployment::with(1, &[("POSTRIDER_DNS_SERVERS", &names.to_string())]).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    let url = format!("http://receiver.test:{}/hook", receiver.address().port());
    subscribe_with(api, json!({"url": url, "events": ["*"]})).await;
    let event = dispatch(api, "order.created").await;
    let worker = &deployment.workers[0];
    let ready = async || worker.telemetry.get("/readyz").await.0;
    eventually(DEADLINE, || async { (ready().await == 503).then_some(()) }).await;
    assert!(worker.output().contains("name servers do not answer"), "{}", worker.output());
    let delivery = delivery_of(api, &event).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("pending"), &json!(0)), "{delivery}");

    serve_names(names).await;
    let delivery = ended(api, &event).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("succeeded"), &json!(1)), "{delivery}");
    eventually(DEADLINE, || async { (ready().await == 200).then_some(()) }).await;
    deployment.stop().await;
}
