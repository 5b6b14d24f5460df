use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

/// What a receiver does with a request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers with this status and no body.
    Status(u16),
    /// Answers with status, headers and body.
    Respond {
        /// The status code.
        status: u16,
        /// Names and values of headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// Behaves differently for each request in turn, and repeats the last behaviour for ever.
    Sequence(Vec<Behaviour>),
    /// Waits, then behaves like this.
    Delay(Duration, Box<Behaviour>),
    /// Waits until the gate is open, then behaves like this.
    Wait(Gate, Box<Behaviour>),
    /// Never answers, and keeps the connection open.
    Hang,
    /// Resets the connection instead of answering.
    Reset,
}

impl Behaviour {
    /// Answers each request with the next status, and repeats the last one for ever.
    pub fn sequence(statuses: impl IntoIterator<Item = u16>) -> Self {
        Self::Sequence(statuses.into_iter().map(Self::Status).collect())
    }

    /// Answers with a status and a body.
    pub fn respond(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Respond { status, headers: Vec::new(), body: body.into() }
    }

    /// The same behaviour after a delay.
    pub fn after(self, delay: Duration) -> Self {
        Self::Delay(delay, Box::new(self))
    }

    /// The same behaviour once the gate is open.
    pub fn behind(self, gate: &Gate) -> Self {
        Self::Wait(gate.clone(), Box::new(self))
    }

    /// The behaviour for the next request; advances a sequence.
    pub(super) fn next(&mut self) -> Behaviour {
        match self {
            Self::Sequence(steps) => match steps.as_mut_slice() {
                [] => Self::Status(200),
                [last] => last.next(),
                [first, ..] => {
                    let now = first.next();
                    steps.remove(0);
                    now
                }
            },
            Self::Delay(delay, then) => Self::Delay(*delay, Box::new(then.next())),
            Self::Wait(gate, then) => Self::Wait(gate.clone(), Box::new(then.next())),
            other => other.clone(),
        }
    }
}

/// Holds requests back until the test opens it.
#[derive(Clone, Debug)]
pub struct Gate {
    is_open: Arc<watch::Sender<bool>>,
}

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self { is_open: Arc::new(watch::Sender::new(false)) }
    }

    /// Lets all requests through from now on.
    pub fn open(&self) {
        self.is_open.send_replace(true);
    }

    pub(super) async fn passed(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_repeats_its_last_step_for_ever() {
        let mut behaviour = Behaviour::Sequence(vec![
            Behaviour::sequence([500]).after(Duration::from_secs(1)),
            Behaviour::Status(410),
        ]);
        assert!(matches!(
            behaviour.next(),
            Behaviour::Delay(_, then) if matches!(*then, Behaviour::Status(500))
        ));
        for _ in 0..3 {
            assert!(matches!(behaviour.next(), Behaviour::Status(410)));
        }
    }
}
