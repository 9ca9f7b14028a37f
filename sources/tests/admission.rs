//! What a cluster with Knative Eventing did, replayed against the kinds of this crate as well.

#[path = "../../crds/tests/measured/cases.rs"]
mod cases;

use crds::resource::Catalog;

static CATALOG: Catalog = Catalog::new(sources::RESOURCES).and(sources::sinks::RESOURCES);

#[test]
fn refusals_have_knatives_words() {
    assert_eq!(cases::refusals_have_knatives_words(CATALOG), 29);
}

#[test]
fn what_is_accepted_is_stored_with_knatives_defaults() {
    assert_eq!(cases::what_is_accepted_is_stored_with_knatives_defaults(CATALOG), 22);
}

#[test]
fn stricter_refusals_name_the_filter_and_say_why() {
    cases::stricter_refusals_name_the_filter_and_say_why(CATALOG);
}
