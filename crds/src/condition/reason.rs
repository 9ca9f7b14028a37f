//! The reasons of conditions, in Knative's words, which scripts and dashboards look for.

/// A Trigger names a Broker that is not there.
pub const BROKER_DOES_NOT_EXIST: &str = "BrokerDoesNotExist";
/// The dispatcher has not taken a Trigger up yet.
pub const SUBSCRIPTION_NOT_CONFIGURED: &str = "SubscriptionNotConfigured";
/// No dead letter sink is asked for. The condition holds nevertheless.
pub const DEAD_LETTER_SINK_NOT_CONFIGURED: &str = "DeadLetterSinkNotConfigured";
/// The dead letter sink has no address. A sentence in place of a word, as it is in Knative.
pub const NO_DEAD_LETTER_SINK_URI: &str = "Unable to get the dead letter sink's URI";
/// The subscriber has no address. A sentence in place of a word, as it is in Knative.
pub const NO_SUBSCRIBER_URI: &str = "Unable to get the Subscriber's URI";
/// What a Trigger depends on is not there.
pub const DEPENDENCY_DOES_NOT_EXIST: &str = "DependencyDoesNotExist";
/// A Trigger's dependency could not be read from its annotation.
pub const REFERENCE_ERROR: &str = "ReferenceError";
/// Nobody is asked who they are, so no policy says who may send.
pub const OIDC_DISABLED: &str = "OIDCDisabled";
/// No identity is made, for nobody asks for it. A sentence in place of a word, as it is in Knative.
pub const OIDC_FEATURE_DISABLED: &str = "authentication-oidc feature disabled";
/// A source's sink is not there, or has no address.
pub const SINK_NOT_FOUND: &str = "NotFound";
/// A GitHub source's access token is not in its Secret.
pub const ACCESS_TOKEN_NOT_FOUND: &str = "AccessTokenNotFound";
/// A GitHub source's secret token is not in its Secret.
pub const SECRET_TOKEN_NOT_FOUND: &str = "SecretTokenNotFound";
