//! Kubernetes' rules for names. Each answers with the sentence that Kubernetes prints.

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
    and end with an alphanumeric character (e.g. 'my-name', or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
    must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName', or 'my.name', or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
    must start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345', regex used for \
    validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', or \
    'KEY_NAME', or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const TOO_LONG_63: &str = "must be no more than 63 characters";
const TOO_LONG_253: &str = "must be no more than 253 characters";

/// A DNS label: the name of a namespace.
///
/// # Errors
/// The rule that is broken.
pub fn label(text: &str) -> Result<(), &'static str> {
    if text.len() > 63 {
        return Err(TOO_LONG_63);
    }
    if is_label(text) { Ok(()) } else { Err(LABEL) }
}

/// A DNS subdomain: the name of most objects.
///
/// # Errors
/// The rule that is broken.
pub fn subdomain(text: &str) -> Result<(), &'static str> {
    if text.len() > 253 {
        return Err(TOO_LONG_253);
    }
    if text.split('.').all(is_label) { Ok(()) } else { Err(SUBDOMAIN) }
}

/// Whether it is a version, or a group and a version with a slash between, which can become part of a path.
#[must_use]
pub fn is_api_version(text: &str) -> bool {
    match text.split_once('/') {
        Some((group, version)) => subdomain(group).is_ok() && label(version).is_ok(),
        None => label(text).is_ok(),
    }
}

/// Whether it is made of letters, digits and underscores and does not begin with a digit, as the name of a kind.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The key of a label or an annotation: a name, or a domain and a name.
///
/// # Errors
/// The rule that is broken.
pub fn qualified(text: &str) -> Result<(), &'static str> {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            subdomain(prefix)?;
            name
        }
        None => text,
    };
    if name.len() > 63 {
        return Err(TOO_LONG_63);
    }
    if is_wrapped(name) { Ok(()) } else { Err(QUALIFIED) }
}

/// The value of a label.
///
/// # Errors
/// The rule that is broken.
pub fn label_value(text: &str) -> Result<(), &'static str> {
    if text.len() > 63 {
        return Err(TOO_LONG_63);
    }
    if text.is_empty() || is_wrapped(text) { Ok(()) } else { Err(LABEL_VALUE) }
}

/// A key of a `ConfigMap` or a Secret.
///
/// # Errors
/// The rule that is broken.
pub fn config_key(text: &str) -> Result<(), &'static str> {
    if text.len() > 253 {
        return Err(TOO_LONG_253);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !text.is_empty() && text.bytes().all(allowed) && text != "." && !text.starts_with("..") {
        Ok(())
    } else {
        Err(CONFIG_KEY)
    }
}

/// A CloudEvents attribute as filters may name it: lower-case letters and digits, a letter first.
#[must_use]
pub fn is_filter_attribute(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_wrapped(text: &str) -> bool {
    let edge = |char: char| char.is_ascii_alphanumeric();
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.starts_with(edge) && text.ends_with(edge) && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_names_are_subdomains() {
        for good in ["a", "a-b", "a.b", "1", &"a".repeat(253)] {
            assert_eq!(subdomain(good), Ok(()), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a/b", "ü", "a b", &"a".repeat(254)]
        {
            assert!(subdomain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn namespaces_are_labels() {
        assert_eq!(label("team-a"), Ok(()));
        for bad in ["", "a.b", &"a".repeat(64)] {
            assert!(label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn qualified_names_may_have_a_domain() {
        for good in ["app", "weft.dev/order", "a/B_c.d"] {
            assert_eq!(qualified(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "A/b", "a b"] {
            assert!(qualified(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn configuration_keys_cannot_leave_a_directory() {
        for good in ["key.name", "KEY_NAME", "a-b", ".a"] {
            assert_eq!(config_key(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "..a", "a/b", "a b"] {
            assert!(config_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn filter_attributes_are_lower_case_and_start_with_a_letter() {
        assert!(is_filter_attribute("type") && is_filter_attribute("a1"));
        for bad in ["", "1a", "My", "a_b", "a-b", "ä"] {
            assert!(!is_filter_attribute(bad), "{bad}");
        }
    }
}
