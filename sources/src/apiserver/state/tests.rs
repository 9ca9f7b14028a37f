//! What is told after a list, with what was remembered before.

use serde_json::json;

use super::{MAX_KNOWN, State, Verb};
use crate::apiserver::object::{Kind, Object};

const KEY: &str = "v1/pods n ";

fn kind() -> Kind {
    Kind {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        plural: "pods".to_owned(),
        namespaced: true,
    }
}

fn object(name: &str, uid: &str, version: u64) -> Object {
    Object::remembered(&kind(), ("n", name), (uid.to_owned(), version.to_string()), true)
}

/// What is told, as `verb name uid version`.
fn words(told: impl IntoIterator<Item = (Verb, Object)>) -> Vec<String> {
    let word = |(verb, object): (Verb, Object)| {
        format!("{verb:?} {} {} {}", object.name, object.uid, object.version)
    };
    told.into_iter().map(word).collect()
}

/// Lists these objects, as of that version.
fn list(state: &mut State, version: u64, objects: &[Object]) -> Vec<String> {
    state.list(KEY);
    let mut told = Vec::new();
    for object in objects {
        told.extend(words(state.listed(KEY, object.clone(), true, &kind())));
    }
    told.extend(words(state.complete(KEY, version.to_string(), &kind(), true)));
    told
}

/// After a restart.
fn recalled(state: &State) -> State {
    let text = serde_json::to_string(state).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_list_tells_what_came_changed_and_went_and_nothing_else() {
    let mut state = State::default();
    let first =
        [object("a", "u1", 1), object("b", "u2", 2), object("c", "u3", 3), object("d", "u4", 4)];
    assert_eq!(
        list(&mut state, 5, &first),
        ["Add a u1 1", "Add b u2 2", "Add c u3 3", "Add d u4 4"]
    );
    state.changed(KEY, Verb::Update, object("a", "u1", 6), true);
    state.changed(KEY, Verb::Delete, object("d", "u4", 7), true);
    state.changed(KEY, Verb::Add, object("e", "u5", 8), true);
    assert_eq!(state.version(KEY), Some("8"));
    let mut state = recalled(&state);
    let now =
        [object("a", "u1", 6), object("b", "u2", 9), object("c", "u6", 10), object("f", "u7", 11)];
    let told = list(&mut state, 12, &now);
    let expected =
        ["Update b u2 9", "Delete c u3 3", "Add c u6 10", "Add f u7 11", "Delete e u5 8"];
    assert_eq!(told, expected);
    assert_eq!(list(&mut state, 13, &now), [""; 0]);
}

#[test]
fn a_list_that_was_cut_off_goes_on_where_it_was() {
    let mut state = State::default();
    let all = [object("a", "u1", 1), object("b", "u2", 2)];
    state.list(KEY);
    state.listed(KEY, all[0].clone(), true, &kind());
    let mut state = recalled(&state);
    assert_eq!(state.version(KEY), None);
    assert_eq!(list(&mut state, 3, &all), ["Add b u2 2"]);
}

#[test]
fn a_quiet_start_tells_only_what_comes_later() {
    let mut state: State =
        serde_json::from_value(json!({"watches": {KEY: {"quiet": true, "known": {}}}})).unwrap();
    let objects = [object("a", "u1", 1), object("b", "u2", 2)];
    assert_eq!(list(&mut state, 3, &objects), [""; 0]);
    assert_eq!(list(&mut state, 5, &[object("a", "u1", 4)]), ["Update a u1 4", "Delete b u2 2"]);
}

#[test]
fn what_is_not_wanted_is_neither_told_nor_remembered() {
    let mut state = State::default();
    state.list(KEY);
    assert!(state.listed(KEY, object("a", "u1", 1), false, &kind()).is_empty());
    state.listed(KEY, object("b", "u2", 2), true, &kind());
    state.complete(KEY, "3".to_owned(), &kind(), true);
    assert!(state.changed(KEY, Verb::Update, object("b", "u2", 4), false).is_none());
    assert!(state.changed(KEY, Verb::Delete, object("b", "u2", 5), false).is_none());
    assert_eq!(state.version(KEY), Some("5"));
    assert_eq!(list(&mut state, 6, &[]), [""; 0]);
}

#[test]
fn of_too_many_objects_the_newer_ones_are_told_as_updates() {
    let mut state = State::default();
    let many: Vec<Object> =
        (0..=MAX_KNOWN as u64).map(|n| object(&format!("o{n}"), &format!("u{n}"), n + 1)).collect();
    assert_eq!(list(&mut state, 20_000, &many).len(), many.len());
    assert!(!state.is_whole());
    let mut state = recalled(&state);
    let fewer = [object("o1", "u1", 2), object("o2", "u2", 20_001)];
    assert_eq!(list(&mut state, 20_002, &fewer), ["Update o2 u2 20001"]);
    assert!(state.is_whole(), "there is room again");
    assert_eq!(list(&mut state, 20_003, &fewer[..1]), ["Delete o2 u2 20001"]);
}

#[test]
fn what_later_pages_of_a_list_had_already_is_not_told_again() {
    let mut state = State::default();
    // As of version 2, though the last page was read after version 6.
    let listed = [object("a", "u1", 1), object("b", "u2", 5), object("c", "u4", 6)];
    list(&mut state, 2, &listed);
    let happened = [
        (Verb::Update, object("b", "u2", 3)),
        (Verb::Delete, object("c", "u3", 4)),
        (Verb::Update, object("b", "u2", 5)),
        (Verb::Add, object("c", "u4", 6)),
        (Verb::Update, object("b", "u2", 7)),
        (Verb::Delete, object("a", "u1", 8)),
    ];
    let told = happened.into_iter().filter_map(|(verb, it)| state.changed(KEY, verb, it, true));
    assert_eq!(words(told.collect::<Vec<_>>()), ["Update b u2 7", "Delete a u1 8"]);
    assert_eq!(state.version(KEY), Some("8"));
}

#[test]
fn what_was_in_a_namespace_that_is_gone_is_told_as_deleted() {
    let mut state = State::default();
    list(&mut state, 2, &[object("a", "u1", 1)]);
    assert_eq!(words(state.vanish(KEY, &kind(), true)), ["Delete a u1 1"]);
    assert_eq!(state.keys().count(), 0);
}
