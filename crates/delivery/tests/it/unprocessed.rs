//! Requests that an HTTP/2 receiver has not processed.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use postrider_core::ErrorKind;
use postrider_delivery::Sent;

use crate::h2_receiver::{Behaviour, h2_pair};
use crate::receiver::until;
use crate::setup::*;

#[tokio::test]
async fn requests_above_the_last_stream_of_a_goaway_are_sent_again() {
    for ends_after in [1, 5, 100] {
        let behaviour = Behaviour { ends_after: Some(ends_after), ..Behaviour::default() };
        let (client, _receiver, counts, url) = h2_pair(long_timeout(), behaviour).await;
        // The second round knows how many requests a connection serves.
        for round in 1..=2 {
            for sent in join_all((0..300).map(|_| client.send(post(&url)))).await {
                assert!(sent.is_success() && !sent.trail.resent, "{ends_after}, {round}: {sent:?}");
            }
            assert_eq!(counts.processed.load(Ordering::SeqCst), 300 * round, "{ends_after}: one each");
        }
    }
}

#[tokio::test]
async fn fewer_requests_share_a_connection_of_a_receiver_that_ends_them_early() {
    let behaviour = Behaviour { ends_after: Some(5), ..Behaviour::default() };
    let (client, _receiver, counts, url) = h2_pair(long_timeout(), behaviour).await;
    for _ in 0..3 {
        assert!(join_all((0..100).map(|_| client.send(post(&url)))).await.iter().all(Sent::is_success));
    }
    let per_connection = counts.per_connection.lock().unwrap().clone();
    assert!(per_connection.iter().skip(3).all(|requests| *requests <= 10), "{per_connection:?}");
}

#[tokio::test]
async fn a_refused_request_is_sent_again() {
    let behaviour = Behaviour { refuses_first: 15, ..Behaviour::default() };
    let (client, _receiver, counts, url) = h2_pair(long_timeout(), behaviour).await;
    let sent = client.send(post(&url)).await;
    assert!(sent.is_success() && !sent.trail.resent, "{sent:?}");
    assert_eq!(counts.refused.load(Ordering::SeqCst), 15);

    let behaviour = Behaviour { refuses_beyond: Some(7), gathers: 7, ..Behaviour::default() };
    let (client, _receiver, counts, url) = h2_pair(long_timeout(), behaviour).await;
    for sent in join_all((0..70).map(|_| client.send(post(&url)))).await {
        assert!(sent.is_success(), "{sent:?}");
    }
    assert_eq!(counts.processed.load(Ordering::SeqCst), 70);
}

#[tokio::test]
async fn a_receiver_that_refuses_everything_is_not_blamed() {
    let behaviour = Behaviour { refuses_first: usize::MAX, ..Behaviour::default() };
    let (client, _receiver, counts, url) = h2_pair(long_timeout(), behaviour).await;
    let failure = failure_of(client.send(post(&url)).await);
    assert_eq!((failure.kind, counts.refused.load(Ordering::SeqCst)), (ErrorKind::Unprocessed, 21));
    assert!(!failure.kind.blames_receiver());
}

#[tokio::test]
async fn a_receiver_never_gets_more_requests_at_once_than_it_allows() {
    for max in [1, 3, 40] {
        let behaviour =
            Behaviour { max_streams: Some(max), late_settings: true, gathers: 1, ..Behaviour::default() };
        let (client, _receiver, counts, url) = h2_pair(long_timeout(), behaviour).await;
        let sending = tokio::spawn(async move { join_all((0..120).map(|_| client.send(post(&url)))).await });
        until("the first request has arrived", || !counts.per_connection.lock().unwrap().is_empty()).await;
        // Settings come last, when all requests that do not wait for them have arrived.
        for _ in 0..121 {
            counts.release.notify_one();
            tokio::task::yield_now().await;
        }
        until("all are sent", || {
            counts.release.notify_one();
            sending.is_finished()
        })
        .await;
        assert!(sending.await.unwrap().iter().all(Sent::is_success));
        let most = counts.most_open.load(Ordering::SeqCst);
        assert!(most <= max as usize, "{most} of {max}");
    }
}

#[tokio::test]
async fn more_connections_are_opened_if_one_may_carry_too_few_requests() {
    let behaviour = Behaviour { max_streams: Some(10), gathers: 10, ..Behaviour::default() };
    let (client, receiver, counts, url) = h2_pair(long_timeout(), behaviour).await;
    for sent in join_all((0..100).map(|_| client.send(post(&url)))).await {
        assert!(sent.is_success(), "{sent:?}");
    }
    assert_eq!((receiver.accepted(), counts.most_open.load(Ordering::SeqCst)), (10, 10));
}

#[tokio::test]
async fn a_receiver_that_requires_http1_gets_it_and_is_remembered() {
    let behaviour = Behaviour { requires_http1: true, ..Behaviour::default() };
    let (client, receiver, counts, url) = h2_pair(long_timeout(), behaviour).await;
    for _ in 0..3 {
        assert!(client.send(post(&url)).await.is_success());
    }
    assert_eq!((counts.refused.load(Ordering::SeqCst), receiver.requests().len()), (1, 3));
    assert_eq!(receiver.accepted(), 2);
}
