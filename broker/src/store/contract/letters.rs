//! Letters kept aside for a person.

use super::Backend;
use super::mesh::{
    Mesh, NAME, Reader, drain, drain_sorted, event, events, failure, nothing, one, soon, success,
    take, topic,
};
use crate::inspect::ParkedSelection;
use crate::store::SubscribeOptions;

async fn park(reader: &mut Reader, count: usize) {
    for delivery in take(reader, count).await {
        delivery.park(failure("dead"));
    }
}

fn of_trigger(name: &str) -> ParkedSelection {
    ParkedSelection { subscription: Some(name.to_owned()), ..ParkedSelection::default() }
}

fn of_event(id: &str) -> ParkedSelection {
    ParkedSelection { event_id: Some(id.to_owned()), ..ParkedSelection::default() }
}

/// Others pass it, and everything that is to be known of it is there.
pub async fn a_parked_letter_is_out_of_the_way_and_can_be_read(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..3, "a")).await;
    one(&mut reader).await.retry(soon(1), failure("once"));
    let rest = take(&mut reader, 3).await;
    assert_eq!(rest.len(), 3);
    let (mut position, why) = (None, failure("hopeless"));
    for delivery in rest {
        if delivery.attempts == 1 {
            position = Some(delivery.position);
            delivery.park(why.clone());
        } else {
            delivery.ack(Some(success()));
        }
    }
    mesh.backlog(NAME, 0).await;
    nothing(&mut reader).await;
    let letters = mesh.parked();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((&letter.topic, letter.subscription.as_str()), (&topic(), NAME));
    assert_eq!((Some(letter.position), &letter.event), (position, &event(0, "a")));
    assert_eq!((letter.attempts, &letter.last), (2, &why));
    let status = mesh.status(NAME).expect("it is subscribed");
    assert_eq!((status.backlog, status.parked, status.oldest), (0, 1, None));
    assert!(mesh.topic_status().kept_bytes > 0, "a letter is kept");
    // The next holder does not get it either.
    drop(reader);
    let mut reader = mesh.subscribe(NAME);
    nothing(&mut reader).await;
}

/// Oldest first, without gaps or repetition, also where two triggers parked the same event.
pub async fn letters_are_listed_page_by_page(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let (mut a, mut b) = (mesh.subscribe("default/a"), mesh.subscribe("default/b"));
    mesh.route(&[(&a, "*"), (&b, "*")]);
    mesh.append(events(0..10, "a")).await;
    park(&mut a, 10).await;
    park(&mut b, 10).await;
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = mesh.store.parked(&ParkedSelection::default(), after, 7);
        let page = page.expect("letters can be read");
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        after = Some(last.position);
        seen.extend(page.into_iter().map(|letter| (letter.position, letter.subscription)));
    }
    assert_eq!(seen.len(), 20);
    assert!(seen.is_sorted());
}

/// By any of the three, for all three questions.
pub async fn letters_are_selected_by_trigger_position_and_id(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let (mut a, mut b) = (mesh.subscribe("default/a"), mesh.subscribe("default/b"));
    mesh.route(&[(&a, "*"), (&b, "*")]);
    mesh.append(events(0..6, "a")).await;
    park(&mut a, 6).await;
    park(&mut b, 6).await;
    let count = |which: &ParkedSelection| {
        mesh.store.parked(which, None, 100).expect("letters can be read").len()
    };
    assert_eq!(count(&ParkedSelection::default()), 12);
    assert_eq!(count(&of_trigger("default/b")), 6);
    assert_eq!(count(&of_trigger("default/c")), 0);
    assert_eq!(count(&of_event("4")), 2);
    let position = Some(mesh.position(3));
    let both = ParkedSelection { position, ..of_trigger("default/a") };
    assert_eq!(count(&both), 1);
    assert_eq!(count(&ParkedSelection { position, ..of_event("4") }), 0);
    assert_eq!(mesh.store.redrive(&both), Ok(1));
    assert_eq!(drain(&mut a, 1).await, [3]);
    assert_eq!(mesh.store.purge(&of_event("4")), Ok(2));
    assert_eq!(mesh.store.redrive(&of_trigger("default/b")), Ok(5));
    assert_eq!(drain_sorted(&mut b, 5).await, [0, 1, 2, 3, 5]);
    assert_eq!(mesh.store.purge(&ParkedSelection::default()), Ok(4));
    assert_eq!(count(&ParkedSelection::default()), 0);
    nothing(&mut a).await;
    nothing(&mut b).await;
}

/// As if it had never been tried, ordered or not, held or not.
pub async fn a_redriven_letter_starts_afresh(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..3, "a")).await;
    park(&mut reader, 3).await;
    nothing(&mut reader).await;
    assert_eq!(mesh.store.redrive(&ParkedSelection::default()), Ok(3));
    assert_eq!(mesh.store.redrive(&ParkedSelection::default()), Ok(0));
    for delivery in take(&mut reader, 3).await {
        assert_eq!((delivery.attempts, &delivery.last), (0, &None));
        delivery.park(failure("again"));
    }
    assert!(mesh.parked().iter().all(|letter| letter.attempts == 1));
    drop(reader);
    assert_eq!(mesh.store.redrive(&ParkedSelection::default()), Ok(3));
    let ordered = SubscribeOptions { ordered: true, ..SubscribeOptions::default() };
    let mut reader = mesh.subscribe_with(NAME, ordered);
    let delivery = one(&mut reader).await;
    assert_eq!((delivery.attempts, delivery.not_before), (0, None));
    delivery.ack(None);
    assert_eq!(drain(&mut reader, 2).await, [1, 2]);
    nothing(&mut reader).await;
    assert!(mesh.parked().is_empty());
}

/// Nobody gets it any more, and nothing is kept for it.
pub async fn a_purged_letter_is_gone(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..3, "a")).await;
    park(&mut reader, 3).await;
    assert_eq!(mesh.store.purge(&of_event("1")), Ok(1));
    assert_eq!(mesh.store.purge(&of_event("1")), Ok(0));
    assert_eq!(mesh.store.redrive(&of_event("1")), Ok(0));
    assert_eq!(mesh.parked().len(), 2);
    assert_eq!(mesh.store.purge(&ParkedSelection::default()), Ok(2));
    assert_eq!(mesh.topic_status().kept_bytes, 0);
    nothing(&mut reader).await;
}

/// A trigger that is deleted takes its letters along; those of others stay.
pub async fn unsubscribing_forgets_the_letters(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let (mut a, mut b) = (mesh.subscribe("default/a"), mesh.subscribe("default/b"));
    mesh.route(&[(&a, "*"), (&b, "*")]);
    mesh.append(events(0..3, "a")).await;
    park(&mut a, 3).await;
    park(&mut b, 3).await;
    mesh.store.unsubscribe(&topic(), "default/a").expect("there is one");
    let letters = mesh.parked();
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.subscription == "default/b"));
    assert_eq!(mesh.store.redrive(&of_trigger("default/a")), Ok(0));
}
