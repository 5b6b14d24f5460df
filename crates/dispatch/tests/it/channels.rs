//! Who gets an event with channels, and who one without.

use postrider_core::{Channels, EventPattern, Metadata, SubscriberId, TenantId};
use postrider_dispatch::{DispatchError, Dispatcher, FanOut, NewEvent};
use postrider_stage::subscriber_of;
use postrider_store::intake::Audience;
use postrider_store::subscribers::{NewSubscriber, SubscriberChange};
use postrider_testkit::eventually;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::json;
use std::time::Duration;

use crate::stage::{Stage, event, keyed, on_both};

on_both!(
    an_event_goes_to_those_who_share_a_channel_or_have_none,
    the_cache_does_not_mix_channels,
    a_changed_channel_or_pattern_takes_effect_at_once,
    channels_of_tenants_are_apart,
    patterns_that_an_older_program_wrote_do_not_undo_channels,
    a_wide_event_goes_to_all_who_share_a_channel,
    an_application_s_transaction_observes_channels,
    a_key_stands_for_channels_and_metadata_too,
    a_batch_finds_the_subscribers_of_each_event,
);

#[allow(clippy::unnecessary_wraps, reason = "as the fields that it fills")]
fn channels(words: &[&str]) -> Option<Channels> {
    Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>().try_into().unwrap())
}

fn created(words: &[&str]) -> NewEvent {
    let channels = if words.is_empty() { None } else { channels(words) };
    NewEvent { channels, ..event("order.created", &json!({})) }
}

async fn subscribe(stage: &Stage, patterns: &[&str], words: &[&str]) -> SubscriberId {
    let new = NewSubscriber { channels: channels(words), ..subscriber_of(patterns) };
    stage.store.create_subscriber(&stage.tenant, new).await.unwrap().id
}

async fn found(dispatcher: &Dispatcher, words: &[&str]) -> Vec<SubscriberId> {
    dispatcher.dispatch(created(words)).await.unwrap().subscribers
}

async fn an_event_goes_to_those_who_share_a_channel_or_have_none(stage: &Stage) {
    let everyone = stage.subscribe(&["order.*"]).await;
    let a = subscribe(stage, &["*", "order.created"], &["a"]).await;
    let both = subscribe(stage, &["order.created", "order.*"], &["a", "b"]).await;
    let other_type = subscribe(stage, &["user.*"], &["a", "b"]).await;
    let dispatcher = stage.dispatcher();
    // Twice each: the second time with what the first may have cached.
    for _ in 0..2 {
        assert_eq!(found(&dispatcher, &[]).await, [everyone]);
        assert_eq!(found(&dispatcher, &["a"]).await, [everyone, a, both]);
        assert_eq!(found(&dispatcher, &["b"]).await, [everyone, both]);
        assert_eq!(found(&dispatcher, &["b", "a"]).await, [everyone, a, both], "each once");
        assert_eq!(found(&dispatcher, &["c", "ab"]).await, [everyone]);
    }
    let to_one = dispatcher.dispatch_to(other_type, created(&["a"])).await.unwrap();
    assert_eq!(to_one.subscribers, [other_type], "whatever the channels say");
    let stored = stage.store.event(&stage.tenant, to_one.id).await.unwrap().unwrap();
    assert_eq!(stored.channels, channels(&["a"]));
    let shown = stage.store.subscriber(&stage.tenant, both).await.unwrap().unwrap();
    let patterns: Vec<_> = shown.events.iter().map(EventPattern::as_str).collect();
    assert_eq!((patterns, shown.channels), (vec!["order.*", "order.created"], channels(&["a", "b"])));
}

async fn the_cache_does_not_mix_channels(stage: &Stage) {
    let a = subscribe(stage, &["*"], &["a"]).await;
    let dispatcher = stage.dispatcher();
    assert_eq!(found(&dispatcher, &["a"]).await, [a]);
    assert_eq!(found(&dispatcher, &[]).await, [], "no subscriber in a channel");
    assert_eq!(found(&dispatcher, &["a"]).await, [a], "an empty list of others hides nobody");
}

async fn a_changed_channel_or_pattern_takes_effect_at_once(stage: &Stage) {
    let subscriber = subscribe(stage, &["order.*"], &["a"]).await;
    let (dispatcher, other) = (stage.dispatcher(), stage.another_dispatcher().await);
    let keep = SubscriberChange::default;
    let steps = [
        (SubscriberChange { channels: Some(channels(&["b"])), ..keep() }, [false, false, true]),
        (SubscriberChange { events: Some(vec!["user.*".parse().unwrap()]), ..keep() }, [false, false, false]),
        (SubscriberChange { events: Some(vec!["*".parse().unwrap()]), ..keep() }, [false, false, true]),
        (SubscriberChange { channels: Some(None), ..keep() }, [true, true, true]),
        (SubscriberChange { active: Some(false), ..keep() }, [false, false, false]),
        (SubscriberChange { active: Some(true), ..keep() }, [true, true, true]),
        (SubscriberChange { channels: Some(channels(&["a"])), ..keep() }, [false, true, false]),
        (SubscriberChange { active: Some(false), ..keep() }, [false, false, false]),
    ];
    for (step, (change, expected)) in steps.into_iter().enumerate() {
        stage.store.change_subscriber(&stage.tenant, subscriber, change).await.unwrap().unwrap();
        for dispatcher in [&dispatcher, &other] {
            let mut got = [false; 3];
            for (got, words) in got.iter_mut().zip([&[][..], &["a"], &["b"]]) {
                *got = found(dispatcher, words).await == [subscriber];
            }
            assert_eq!(got, expected, "step {step}");
        }
    }
    assert!(stage.store.delete_subscriber(&stage.tenant, subscriber).await.unwrap());
    assert_eq!(stage.count("SELECT count(*) FROM channel_subscriptions").await, 0);
}

async fn patterns_that_an_older_program_wrote_do_not_undo_channels(stage: &Stage) {
    let a = subscribe(stage, &["*"], &["a"]).await;
    stage.crowd(&stage.tenant, &["user.*"], 101).await;
    into_channel(stage, "user.*", "b").await;
    let older = "INSERT INTO subscriptions (tenant, pattern, subscriber_id) SELECT tenant, 'order.*', id FROM subscribers";
    stage.database.connection().execute_unprepared(older).await.unwrap();
    let dispatcher = stage.dispatcher();
    for _ in 0..2 {
        assert_eq!(found(&dispatcher, &[]).await, [], "few are looked up");
        assert_eq!(found(&dispatcher, &["a"]).await, [a]);
    }
    let tenant = &stage.tenant;
    let counted = stage
        .store
        .audience_of(stage.store.database().connection(), tenant, &"order.x".parse().unwrap(), None)
        .await;
    assert_eq!(counted.unwrap(), Audience::Few(Vec::new()), "and so if they are counted");
}

async fn channels_of_tenants_are_apart(stage: &Stage) {
    let acme: TenantId = "acme".parse().unwrap();
    let new = NewSubscriber { channels: channels(&["a"]), ..subscriber_of(&["*"]) };
    let theirs = stage.store.create_subscriber(&acme, new).await.unwrap().id;
    let dispatcher = stage.dispatcher();
    assert_eq!(found(&dispatcher, &["a"]).await, []);
    let event = NewEvent { tenant: acme, ..created(&["a"]) };
    assert_eq!(dispatcher.dispatch(event).await.unwrap().subscribers, [theirs]);
}

/// Gives channels to as many subscribers as `crowd` has made last, in the way of the store.
async fn into_channel(stage: &Stage, pattern: &str, word: &str) {
    for sql in [
        format!(
            "UPDATE subscribers SET channels = '{word}' WHERE id IN \
                (SELECT subscriber_id FROM subscriptions WHERE pattern = '{pattern}')"
        ),
        format!(
            "INSERT INTO channel_subscriptions (tenant, channel, pattern, subscriber_id) \
            SELECT tenant, '{word}', pattern, subscriber_id FROM subscriptions WHERE pattern = '{pattern}'"
        ),
        format!("DELETE FROM subscriptions WHERE pattern = '{pattern}'"),
    ] {
        stage.database.connection().execute_unprepared(&sql).await.unwrap();
    }
}

async fn a_wide_event_goes_to_all_who_share_a_channel(stage: &Stage) {
    stage.crowd(&stage.tenant, &["order.created"], 700).await;
    into_channel(stage, "order.created", "a").await;
    stage.crowd(&stage.tenant, &["*"], 60).await;
    into_channel(stage, "*", "b").await;
    stage.crowd(&stage.tenant, &["order.*"], 90).await;
    let dispatcher = stage.dispatcher();
    for (words, count) in [(&["a"][..], 790), (&["b"], 150), (&["a", "b", "c"], 850)] {
        let answer = dispatcher.dispatch(created(words)).await.unwrap();
        assert_eq!((answer.subscribers_found, answer.fan_out), (count, FanOut::Continuing), "{words:?}");
        let done = eventually(Duration::from_mins(1), || async {
            let event = stage.store.event(&stage.tenant, answer.id).await.unwrap().unwrap();
            (!event.continues).then_some(event)
        })
        .await;
        assert_eq!(done.jobs_created as usize, count, "{words:?}");
    }
    let pairs = "SELECT count(*) FROM (SELECT DISTINCT id, subscriber_id FROM deliveries) AS pairs";
    assert_eq!(stage.count(pairs).await, 790 + 150 + 850);
    assert_eq!(found(&dispatcher, &["c"]).await.len(), 90, "the others do not count");
    assert_eq!(found(&dispatcher, &[]).await.len(), 90);
}

async fn an_application_s_transaction_observes_channels(stage: &Stage) {
    let a = subscribe(stage, &["*"], &["a"]).await;
    let plain = stage.subscribe(&["*"]).await;
    let dispatcher = stage.dispatcher();
    for (words, expected) in [(&[][..], vec![plain]), (&["a"], vec![a, plain]), (&["b"], vec![plain])] {
        let transaction = stage.database.connection().begin().await.unwrap();
        let answer = dispatcher.dispatch_in(&transaction, created(words)).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(answer.subscribers, expected, "{words:?}");
    }
}

async fn a_key_stands_for_channels_and_metadata_too(stage: &Stage) {
    let dispatcher = stage.dispatcher();
    let noted =
        |text: &str| Metadata::default().merged([("note".to_owned(), Some(text.to_owned()))]).unwrap();
    let first = || NewEvent {
        channels: channels(&["a", "b"]),
        metadata: noted("x"),
        ..keyed("order.created", &json!({}), "k")
    };
    let made = dispatcher.dispatch(first()).await.unwrap();
    let again = dispatcher.dispatch(NewEvent { channels: channels(&["b", "a"]), ..first() }).await.unwrap();
    assert_eq!((again.id, again.duplicate), (made.id, true));
    for other in [
        NewEvent { channels: None, ..first() },
        NewEvent { channels: channels(&["a"]), ..first() },
        NewEvent { metadata: noted("y"), ..first() },
        NewEvent { metadata: Metadata::default(), ..first() },
    ] {
        assert!(matches!(dispatcher.dispatch(other).await, Err(DispatchError::KeyConflict)));
    }
    let stored = stage.store.event(&stage.tenant, made.id).await.unwrap().unwrap();
    assert_eq!((stored.channels, stored.metadata), (channels(&["a", "b"]), noted("x")));
}

async fn a_batch_finds_the_subscribers_of_each_event(stage: &Stage) {
    let plain = stage.subscribe(&["*"]).await;
    let a = subscribe(stage, &["*"], &["a"]).await;
    let b = subscribe(stage, &["*"], &["b"]).await;
    let batch = [&[][..], &["a"], &["b"], &["a", "b"], &["c"], &[]].map(created);
    let answers = stage.dispatcher().dispatch_batch(batch.into()).await;
    let subscribers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().subscribers).collect();
    let expected = [vec![plain], vec![plain, a], vec![plain, b], vec![plain, a, b], vec![plain], vec![plain]];
    assert_eq!(subscribers, expected);
}
