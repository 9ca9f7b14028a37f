//! What a source makes of the errors that Redis answers, and of those on the way to it.

use std::error::Error as StdError;

use ::redis::{ErrorKind, RedisError};

use crate::quote::quote;
use crate::source::SourceError;

/// Turns the failure of `what`, a few words that follow "cannot", into the decision that it calls for.
pub(crate) fn trouble(what: impl Into<String>, error: &RedisError) -> SourceError {
    let what = what.into();
    if error.kind() == ErrorKind::AuthenticationFailed || is_unauthenticated(error) {
        return SourceError::Credentials { what: format!("{what}: Redis refused the credentials") };
    }
    match error.code() {
        Some("NOPERM") => SourceError::Credentials { what: format!("{what}: {}", said(error)) },
        Some("WRONGTYPE") => SourceError::Absent {
            what: format!("{what}: what Redis keeps under that name is no stream"),
        },
        _ if error.kind() == ErrorKind::InvalidClientConfig => {
            SourceError::Config(format!("{what}: {error}"))
        }
        _ if is_missing_database(error) => {
            SourceError::Absent { what: format!("{what}: there is no such database") }
        }
        _ => SourceError::unavailable(what, said(error)),
    }
}

/// Whether the stream, or the group of it, is not there.
pub(super) fn is_gone(error: &RedisError) -> bool {
    // UNBLOCKED is what those are told who wait for entries of a stream that is removed.
    matches!(error.code(), Some("NOGROUP" | "UNBLOCKED"))
        || error.detail().is_some_and(|detail| detail.contains("no such key"))
}

/// Whether the group is there already.
pub(super) fn is_taken(error: &RedisError) -> bool {
    error.code() == Some("BUSYGROUP")
}

/// Choosing a database is a part of connecting, where the library keeps only the server's sentence, without its code.
fn is_unauthenticated(error: &RedisError) -> bool {
    matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
        || error.detail().is_some_and(|detail| detail.contains("Authentication required"))
}

fn is_missing_database(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("DB index is out of range"))
}

/// What the server said, with the code that people look for; or how the way to it failed, to the last cause.
fn said(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => chain(error),
    };
    quote(&text)
}

/// An error with its causes. The library's own errors repeat what they wrap, which is left out.
fn chain(error: &RedisError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

/// An answer of a form that Redis does not have.
pub(super) fn malformed(what: &str, error: impl StdError + Send + Sync + 'static) -> SourceError {
    SourceError::unavailable(what, error)
}

#[cfg(test)]
mod tests {
    use super::{is_gone, is_taken, trouble};
    use crate::source::SourceError;
    use ::redis::{ErrorKind, RedisError, parse_redis_value};

    /// The error that a server answers with this line.
    fn error(line: &str) -> RedisError {
        let answer = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        answer.extract_error().unwrap_err()
    }

    fn chain(error: &SourceError) -> String {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        format!("{error}{}", cause.unwrap_or_default())
    }

    #[test]
    fn every_refusal_calls_for_what_can_help() {
        for (line, reason, text) in [
            (
                "NOAUTH Authentication required.",
                "CredentialsRefused",
                "read: Redis refused the credentials",
            ),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                "CredentialsRefused",
                "read: Redis refused the credentials",
            ),
            (
                "NOPERM this user has no permissions",
                "CredentialsRefused",
                "read: NOPERM this user has no permissions",
            ),
            (
                "WRONGTYPE Operation against a key",
                "UpstreamNotFound",
                "read: what Redis keeps under that name is no stream",
            ),
            ("ERR DB index is out of range", "UpstreamNotFound", "read: there is no such database"),
            (
                "READONLY You can't write against a read only replica.",
                "UpstreamUnavailable",
                "read: READONLY You can't write against a read only replica.",
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                "UpstreamUnavailable",
                "read: LOADING Redis is loading the dataset in memory",
            ),
            (
                "MASTERDOWN Link with MASTER is down",
                "UpstreamUnavailable",
                "read: MASTERDOWN Link with MASTER is down",
            ),
            (
                "CLUSTERDOWN Hash slot not served",
                "UpstreamUnavailable",
                "read: CLUSTERDOWN Hash slot not served",
            ),
            ("MOVED 3999 127.0.0.1:6381", "UpstreamUnavailable", "read: MOVED 3999 127.0.0.1:6381"),
            ("ERR unknown", "UpstreamUnavailable", "read: ERR unknown"),
        ] {
            let made = trouble("read", &error(line));
            assert_eq!((made.reason(), chain(&made).as_str()), (reason, text));
            assert!(made.is_retryable());
        }
    }

    #[test]
    fn failures_on_the_way_are_told_once_with_their_cause() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let made = trouble("connect to cache:6379", &RedisError::from(refused));
        assert_eq!(chain(&made), "connect to cache:6379: connection refused");
        let config = RedisError::from((ErrorKind::InvalidClientConfig, "no host"));
        assert!(!trouble("connect", &config).is_retryable());
        let auth =
            RedisError::from((ErrorKind::AuthenticationFailed, "Password authentication failed"));
        assert_eq!(trouble("connect", &auth).reason(), "CredentialsRefused");
    }

    #[test]
    fn a_long_answer_is_cut_and_has_no_line_breaks() {
        let made = chain(&trouble("read", &error(&format!("ERR {}", "x\t".repeat(1000)))));
        assert!(made.len() < 400 && !made.contains('\t'), "{made}");
    }

    #[test]
    fn a_missing_stream_or_group_is_known() {
        assert!(is_gone(&error("NOGROUP No such key 's' or consumer group 'g' in XREADGROUP")));
        assert!(is_gone(&error("UNBLOCKED the stream key no longer exists")));
        assert!(is_gone(&error("ERR no such key")));
        assert!(!is_gone(&error("ERR unknown command")));
        assert!(is_taken(&error("BUSYGROUP Consumer Group name already exists")));
        assert!(!is_taken(&error("ERR no such key")));
    }
}
