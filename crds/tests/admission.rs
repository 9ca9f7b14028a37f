//! What a cluster with Knative Eventing did, replayed against the kinds of this crate.

#[path = "measured/cases.rs"]
mod cases;

use crds::resource::Catalog;

#[test]
fn refusals_have_knatives_words() {
    assert_eq!(cases::refusals_have_knatives_words(Catalog::BUILTIN), 20);
}

#[test]
fn what_is_accepted_is_stored_with_knatives_defaults() {
    assert_eq!(cases::what_is_accepted_is_stored_with_knatives_defaults(Catalog::BUILTIN), 17);
}

#[test]
fn stricter_refusals_name_the_filter_and_say_why() {
    cases::stricter_refusals_name_the_filter_and_say_why(Catalog::BUILTIN);
}
