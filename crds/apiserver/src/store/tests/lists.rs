//! Lists and pages.

use super::{Expected, Options, Store, delete, in_memory, put, widget, widgets};

/// (namespace, name) of what a list returned, and how many remain.
fn page(
    store: &Store,
    namespace: Option<&str>,
    after: Option<(&str, &str)>,
    limit: usize,
) -> (Vec<String>, usize) {
    let listing = store.list(widgets(), namespace, after, limit);
    let names = listing.records.iter().map(|one| format!("{}/{}", one.key.namespace, one.key.name));
    (names.collect(), listing.remaining)
}

async fn filled() -> std::sync::Arc<Store> {
    let store = in_memory(Options::default());
    for (namespace, name) in [("b", "2"), ("a", "1"), ("c", "1"), ("b", "1"), ("", "z"), ("b", "3")]
    {
        put(&store, &widget(namespace, name), Expected::Absent, "x").await.unwrap();
    }
    store
}

#[tokio::test]
async fn a_list_is_in_order_of_namespace_and_name() {
    let store = filled().await;
    let all = ["/z", "a/1", "b/1", "b/2", "b/3", "c/1"].map(str::to_owned).to_vec();
    assert_eq!(page(&store, None, None, 0), (all, 0));
    assert_eq!(store.list(widgets(), None, None, 0).version, 7);
    let of_b = ["b/1", "b/2", "b/3"].map(str::to_owned).to_vec();
    assert_eq!(page(&store, Some("b"), None, 0), (of_b, 0));
    assert_eq!(page(&store, Some("x"), None, 0), (vec![], 0));
    assert_eq!(page(&store, Some(""), None, 0), (vec!["/z".to_owned()], 0));
}

#[tokio::test]
async fn pages_of_every_size_make_up_the_list() {
    let store = filled().await;
    for namespace in [None, Some("b"), Some("a"), Some("x")] {
        let (all, _) = page(&store, namespace, None, 0);
        for limit in 1..=all.len() + 1 {
            let (mut paged, mut after): (Vec<String>, Option<(String, String)>) = (vec![], None);
            loop {
                let start =
                    after.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
                let (names, remaining) = page(&store, namespace, start, limit);
                assert!(names.len() <= limit);
                paged.extend(names);
                assert_eq!(paged.len() + remaining, all.len(), "{namespace:?} by {limit}");
                if remaining == 0 {
                    break;
                }
                let (namespace, name) = paged.last().unwrap().split_once('/').unwrap();
                after = Some((namespace.to_owned(), name.to_owned()));
            }
            assert_eq!(paged, all, "{namespace:?} by {limit}");
        }
    }
}

#[tokio::test]
async fn a_page_continues_after_an_object_that_is_gone() {
    let store = filled().await;
    let gone = widget("b", "1");
    let version = store.get(&gone).unwrap().version;
    delete(&store, &gone, version).await.unwrap();
    assert_eq!(page(&store, None, Some(("b", "1")), 1), (vec!["b/2".to_owned()], 2));
    assert_eq!(page(&store, None, Some(("b", "9")), 1), (vec!["c/1".to_owned()], 0));
    assert_eq!(page(&store, None, Some(("bb", "")), 0), (vec!["c/1".to_owned()], 0));
    assert_eq!(page(&store, Some("b"), Some(("a", "9")), 1), (vec!["b/2".to_owned()], 1));
    assert_eq!(page(&store, Some("b"), Some(("c", "")), 0), (vec![], 0));
    assert_eq!(page(&store, None, Some(("d", "")), 0), (vec![], 0));
}

#[tokio::test]
async fn a_namespace_whose_last_object_went_is_listed_empty() {
    let store = filled().await;
    let only = widget("a", "1");
    let version = store.get(&only).unwrap().version;
    delete(&store, &only, version).await.unwrap();
    assert_eq!(page(&store, Some("a"), None, 0), (vec![], 0));
    put(&store, &only, Expected::Absent, "again").await.unwrap();
    assert_eq!(page(&store, Some("a"), None, 0), (vec!["a/1".to_owned()], 0));
}
