//! Graceful restarts of servers: clients that obey HTTP/1.1 get an answer to every request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider_testkit::eventually;
use sea_orm::{ConnectionTrait as _, Statement};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::deployment::{ADMIN_KEY, DEADLINE, Deployment, Member, program};

const CLIENTS: usize = 16;
const RESTARTS: usize = 6;
const BODY: &str = r#"{"event":"order.created","data":{}}"#;

/// A response to one request on a connection that may be used again.
struct Answer {
    status: u16,
    closes: bool,
}

/// Sends an event, and reads the answer. Fails if the connection ends before the answer is complete.
async fn send(stream: &mut TcpStream) -> std::io::Result<Answer> {
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&read).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            return Ok(Answer { status, closes: head.lines().any(|line| line == "connection: close") });
        }
    }
}

/// Connects to a server that accepts connections.
async fn connect(servers: &Mutex<[SocketAddr; 2]>, first: usize) -> TcpStream {
    eventually(DEADLINE, || async {
        let [one, two] = *servers.lock().unwrap();
        let order = if first.is_multiple_of(2) { [one, two] } else { [two, one] };
        for address in order {
            if let Ok(stream) = TcpStream::connect(address).await {
                return Some(stream);
            }
        }
        None
    })
    .await
}

/// Whether the server has closed a connection on which no request is under way.
fn is_closed(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Sends events over one connection at a time. Returns how many were acknowledged, or what went wrong.
async fn client(
    number: usize,
    servers: Arc<Mutex<[SocketAddr; 2]>>,
    done: Arc<AtomicBool>,
) -> Result<u64, String> {
    let mut acknowledged = 0;
    let mut connection = None;
    while !done.load(Ordering::SeqCst) {
        let mut stream = match connection.take().filter(|stream| !is_closed(stream)) {
            Some(stream) => stream,
            None => connect(&servers, number).await,
        };
        let answer = send(&mut stream).await.map_err(|error| format!("after {acknowledged}: {error}"))?;
        if answer.status != 202 {
            return Err(format!("after {acknowledged}: status {}", answer.status));
        }
        acknowledged += 1;
        connection = Some(stream).filter(|_| !answer.closes);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_servers_fail_no_request() {
    let deployment = Deployment::start(0).await;
    let start =
        || async { Member::start(&program("postrider-server", deployment.database.url(), &[])).await };
    let mut members = [start().await, start().await];
    let addresses = [members[0].api_address().await, members[1].api_address().await];
    let servers = Arc::new(Mutex::new(addresses));
    let done = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(number, Arc::clone(&servers), Arc::clone(&done)));
    }
    for restart in 0..RESTARTS {
        let place = restart % 2;
        let new = start().await;
        let address = new.api_address().await;
        // Until then clients go on connecting to the old one, and move to the other when it refuses them.
        std::mem::replace(&mut members[place], new).stop().await;
        servers.lock().unwrap()[place] = address;
    }
    done.store(true, Ordering::SeqCst);
    let results = clients.join_all().await;
    let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let acknowledged: u64 = results.iter().flatten().sum();

    let connection = deployment.database.connection();
    let count = Statement::from_string(connection.get_database_backend(), "SELECT count(*) AS n FROM events");
    let stored: i64 = connection.query_one_raw(count).await.unwrap().unwrap().try_get("", "n").unwrap();
    assert_eq!(u64::try_from(stored).unwrap(), acknowledged);
    println!("{acknowledged} events over {RESTARTS} restarts");
    for member in members {
        member.stop().await;
    }
    deployment.stop().await;
}

/// Load balancers and clients leave a server that says so before it stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_is_not_ready_and_serves_until_the_delay_ends() {
    let mut deployment = Deployment::with(0, &[("POSTRIDER_SHUTDOWN_DELAY", "5m")]).await;
    let address = deployment.server.api_address().await;
    let mut old = TcpStream::connect(address).await.unwrap();
    let answer = send(&mut old).await.unwrap();
    assert_eq!((answer.status, answer.closes), (202, false));

    deployment.server.process.terminate().await;
    let telemetry = deployment.server.telemetry.clone();
    let reason = eventually(DEADLINE, || async {
        let (status, body) = telemetry.get("/readyz").await;
        (status == 503).then(|| body["reason"].clone())
    })
    .await;
    assert_eq!(reason, "stopping");
    assert_eq!(deployment.api.get("/readyz").await.0, 503);
    for stream in [&mut old, &mut TcpStream::connect(address).await.unwrap()] {
        let answer = send(stream).await.unwrap();
        assert_eq!((answer.status, answer.closes), (202, true));
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "closed after its answer");
    }
    // A second signal ends it at once.
    deployment.server.process.terminate().await;
    assert_eq!(deployment.server.process.wait(DEADLINE).await.code(), Some(1));
}
