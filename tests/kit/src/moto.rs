//! A server that does what Amazon SQS does: that of `moto`, a Python library.
//!
//! It hides and removes messages as SQS does. It does nothing with groups on standard queues, and gives messages of one group of
//! a FIFO queue to two calls that wait at the same time, which SQS does not: test order with one worker. Without it (`pip install 'moto[server]'`), [`Moto::start`] returns `None` and prints that the test is
//! skipped. `cargo xtask test` installs it, and names the folder in `POSTRIDER_TEST_MOTO`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::redis::UNTIL_END_OF_INPUT;

/// The variable that names a folder with the library.
pub const MOTO_VARIABLE: &str = "POSTRIDER_TEST_MOTO";

/// The region of its queues.
pub const REGION: &str = "eu-west-1";

/// A server. It ends with this value.
#[derive(Debug)]
pub struct Moto {
    process: Child,
    port: u16,
}

impl Moto {
    /// Starts a server without queues.
    pub fn start() -> Option<Self> {
        if !python().args(["-c", "import moto.server"]).status().is_ok_and(|status| status.success()) {
            println!("skipped: there is no moto; install it with: pip install 'moto[server]'");
            return None;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let moto = Self { process: run(port), port };
        moto.wait();
        Some(moto)
    }

    /// Starts a server with a standard queue and its FIFO queue.
    pub fn with_queues(name: &str) -> Option<Self> {
        let moto = Self::start()?;
        moto.make_queues(name);
        Some(moto)
    }

    /// Makes a standard queue and its FIFO queue.
    pub fn make_queues(&self, name: &str) {
        self.call("CreateQueue", &json!({"QueueName": name}));
        let fifo = json!({"QueueName": format!("{name}.fifo"), "Attributes": {"FifoQueue": "true"}});
        self.call("CreateQueue", &fifo);
    }

    /// The URL of a queue for the programs.
    pub fn url(&self, name: &str) -> String {
        format!("sqs://{REGION}/{name}?endpoint={}", self.endpoint())
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How SQS calls a queue.
    pub fn queue_url(&self, name: &str) -> String {
        format!("{}/123456789012/{name}", self.endpoint())
    }

    /// Ends the server. Its queues are lost.
    pub fn kill(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }

    /// Starts it again on the same port, without queues.
    pub fn restart(&mut self) {
        self.kill();
        self.process = run(self.port);
        self.wait();
    }

    /// Makes a call of SQS and returns its answer.
    pub fn call(&self, call: &str, arguments: &Value) -> Value {
        let body = arguments.to_string();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.0\r\n\
             X-Amz-Target: AmazonSQS.{call}\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/sqs/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{call}: {answer}");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or(Value::Null)
    }

    /// How many messages a queue has that are in sight, and out of sight.
    pub fn messages(&self, name: &str) -> (u64, u64) {
        let asked = json!({"QueueUrl": self.queue_url(name), "AttributeNames": ["All"]});
        let answer = self.call("GetQueueAttributes", &asked);
        let number = |name| answer["Attributes"][name].as_str().unwrap().parse().unwrap();
        (number("ApproximateNumberOfMessages"), number("ApproximateNumberOfMessagesNotVisible"))
    }

    fn wait(&self) {
        let end = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(Instant::now() < end, "moto did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.kill();
    }
}

fn python() -> Command {
    let mut python = Command::new("python3");
    if let Some(folder) = std::env::var_os(MOTO_VARIABLE).filter(|folder| !folder.is_empty()) {
        python.env("PYTHONPATH", folder);
    }
    python.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    python
}

fn run(port: u16) -> Child {
    let mut command = Command::new("sh");
    let program = ["-c", UNTIL_END_OF_INPUT, "sh", "python3", "-m", "moto.server", "-H", "127.0.0.1", "-p"];
    command.args(program).arg(port.to_string());
    if let Some(folder) = std::env::var_os(MOTO_VARIABLE).filter(|folder| !folder.is_empty()) {
        command.env("PYTHONPATH", folder);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
