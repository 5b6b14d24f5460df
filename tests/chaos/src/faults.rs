//! The faults of each program, chosen at random from the seed.

use std::time::Duration;

use fastrand::Rng;
use postrider_testkit::proxy::Link;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{LEASE, MAX_STANDSTILL},
    incident::{Fault, Who},
    member::Member,
    moment::{self, wait},
};

/// How often to check whether a program is running.
const TICK: Duration = Duration::from_millis(50);

/// A fault to inflict on a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Kill,
    Terminate,
    /// Stop for less than a lease.
    Pause,
    /// Stop for longer than a lease.
    Zombie,
    Partition,
    Cut,
}

impl Deed {
    fn any(who: Who, survives: bool, rng: &mut Rng) -> Self {
        let choices: &[(Self, u32)] = match who {
            Who::Worker(_) => &[
                (Self::Kill, 25),
                (Self::Terminate, 8),
                (Self::Pause, 12),
                (Self::Zombie, 20),
                (Self::Partition, 20),
                (Self::Cut, 12),
            ],
            Who::Server(_) => &[
                (Self::Kill, 40),
                (Self::Terminate, 10),
                (Self::Pause, 20),
                (Self::Partition, 15),
                (Self::Cut, 15),
            ],
            Who::Whole => &[(Self::Kill, 40), (Self::Terminate, 15), (Self::Pause, 15), (Self::Zombie, 15)],
        };
        let ends = |deed: Self| matches!(deed, Self::Kill | Self::Terminate);
        let choices: Vec<_> = choices.iter().filter(|(deed, _)| !(survives && ends(*deed))).collect();
        let all: u32 = choices.iter().map(|(_, weight)| weight).sum();
        let mut point = rng.u32(..all);
        for (deed, weight) in &choices {
            if point < *weight {
                return *deed;
            }
            point -= weight;
        }
        Self::Pause
    }

    fn lasts(self, rng: &mut Rng) -> Duration {
        Duration::from_millis(match self {
            Self::Kill | Self::Terminate => rng.u64(..1000),
            Self::Pause => rng.u64(100..2000),
            // Long enough for its jobs to be rescued, and short enough to return while their new owner works on them.
            Self::Zombie => return LEASE + MAX_STANDSTILL.mul_f64(0.2 + 0.8 * rng.f64()),
            Self::Partition => rng.u64(200..8000),
            Self::Cut => rng.u64(..5000),
        })
    }
}

/// Inflicts one fault after the other on a program until `stop`, and leaves it running. The last of its kind is never
/// killed, so that its memory can be sampled over the whole run.
pub(crate) async fn torment(
    mut member: Member,
    mut rng: Rng,
    survives: bool,
    stop: CancellationToken,
) -> Member {
    // Each run begins with these faults, however short it is.
    let mut next = match member.who {
        Who::Worker(0) => Some(Deed::Zombie),
        Who::Worker(1) | Who::Server(0) | Who::Whole => Some(Deed::Kill),
        Who::Worker(_) | Who::Server(_) => Some(Deed::Partition),
    };
    while !stop.is_cancelled() {
        let crashes = (!survives && !matches!(member.who, Who::Server(_))).then_some(&mut rng);
        if !member.lives().await {
            member.start(crashes).await;
        }
        let pause = Duration::from_millis(rng.u64(300..3000));
        if rest(&mut member, pause, &stop).await || stop.is_cancelled() {
            continue;
        }
        let deed = next.take().unwrap_or_else(|| Deed::any(member.who, survives, &mut rng));
        let lasts = deed.lasts(&mut rng);
        commit(&mut member, deed, lasts, &stop).await;
    }
    // From here on the program must keep running.
    if member.is_armed() {
        member.kill().await;
    }
    if !member.lives().await {
        member.start(None).await;
    }
    member
}

/// Waits for `pause`, or until the member or the run ends. Returns whether the member has ended.
async fn rest(member: &mut Member, pause: Duration, stop: &CancellationToken) -> bool {
    let end = Instant::now() + pause;
    while Instant::now() < end && !stop.is_cancelled() {
        if !member.lives().await {
            return true;
        }
        sleep(TICK).await;
    }
    false
}

async fn commit(member: &mut Member, deed: Deed, lasts: Duration, stop: &CancellationToken) {
    let (who, from) = (Some(member.who), moment::now());
    let chronicle = member.chronicle();
    match deed {
        Deed::Kill => {
            member.kill().await;
            wait(lasts, stop).await;
        }
        Deed::Terminate => {
            member.terminate().await;
            wait(lasts, stop).await;
        }
        Deed::Pause | Deed::Zombie => {
            member.signal("STOP").await;
            wait(lasts, stop).await;
            member.signal("CONT").await;
            chronicle.note(Fault::Stop, who, from);
        }
        Deed::Partition => {
            member.link(Link::Hanging);
            rest(member, lasts, stop).await;
            // Half of the partitions end with a reset, as if the peer had forgotten the connection.
            if lasts.as_millis().is_multiple_of(2) {
                member.link(Link::Cut);
                sleep(Duration::from_millis(50)).await;
            }
            member.link(Link::Open);
            chronicle.note(Fault::Partition, who, from);
        }
        Deed::Cut => {
            member.link(Link::Cut);
            rest(member, lasts, stop).await;
            member.link(Link::Open);
            chronicle.note(Fault::Cut, who, from);
        }
    }
}
