//! Strategic merge patches, as far as they mean what merge patches mean: `kubectl apply` sends them for Kubernetes' own
//! kinds. What only a strategic merge can say is refused, never half done.

use serde_json::Value;

/// Lists of Kubernetes' own kinds that a strategic merge would merge, and a merge patch would replace.
const MERGED_LISTS: [&str; 5] =
    ["finalizers", "ownerReferences", "secrets", "imagePullSecrets", "managedFields"];

/// Whether a merge patch does what this strategic merge patch means.
pub(crate) fn is_plain(patch: &Value) -> bool {
    match patch {
        Value::Object(map) => map.iter().all(|(key, value)| {
            let merged = value.is_array() && MERGED_LISTS.contains(&key.as_str());
            !key.starts_with('$') && !merged && is_plain(value)
        }),
        Value::Array(items) => items.iter().all(is_plain),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn directives_and_merged_lists_are_not_plain() {
        assert!(is_plain(
            &json!({"data": {"a": "b", "c": null}, "metadata": {"labels": {"x": "y"}}})
        ));
        assert!(!is_plain(&json!({"data": {"$patch": "replace"}})));
        assert!(!is_plain(&json!({"metadata": {"finalizers": ["a"]}})));
        assert!(!is_plain(&json!({"$setElementOrder/secrets": []})));
    }
}
