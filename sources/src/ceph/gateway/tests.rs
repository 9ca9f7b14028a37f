//! What the gateway is told, against a server that keeps topics and notifications as Ceph's documentation describes it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{Gateway, Known, registrar, topic, xml};
use crate::ceph::CephGateway;
use crate::registration::fake::{Answer, Call, Server};
use crate::registration::{Registered, Registrar, RegistrationError};
use crate::secret::Secret;
use crate::source::fake::World;

const ACCESS: &str = "0555b35654ad1656d804";
const SECRET: &str = "h7GhxuBLTrlhVUyxSPUKUV8r";
const TOKEN: &str = "it is=a&secret";
const PUSH: &str = "http://mesh.example/sources/default/one?token=it%20is%3Da%26secret";
const ARN: &str = "arn:aws:sns:default::weft_default_one";

/// What the gateway has.
#[derive(Debug, Default)]
struct Rgw {
    /// The attributes of topics, by name.
    topics: BTreeMap<String, BTreeMap<String, String>>,
    /// The notifications of buckets, by their ids, as they were put.
    buckets: BTreeMap<String, BTreeMap<String, String>>,
    /// A bucket that the user has no longer a right to.
    closed: Option<&'static str>,
}

impl Rgw {
    fn answer(&mut self, call: &Call) -> Answer {
        let sent = &call.headers["authorization"];
        assert!(
            sent.starts_with(&format!("AWS4-HMAC-SHA256 Credential={ACCESS}/19700101/us-east-1/")),
            "{sent}"
        );
        assert!(!call.body.contains(SECRET));
        assert_eq!(call.headers["accept"], "application/xml");
        if call.path == "/" {
            return self.sns(call);
        }
        let (bucket, query) = call.path.trim_start_matches('/').split_once('?').unwrap();
        if self.closed == Some(bucket) {
            return Answer::text(403, "<Error><Code>AccessDenied</Code></Error>");
        }
        let Some(notifications) = self.buckets.get_mut(bucket) else {
            let text = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><RequestId>tx0</RequestId></Error>";
            return Answer::text(404, text);
        };
        match (call.method.as_str(), query) {
            ("GET", "notification") => {
                let all: String = notifications.values().map(String::as_str).collect();
                Answer::text(
                    200,
                    &format!("<NotificationConfiguration>{all}</NotificationConfiguration>"),
                )
            }
            ("PUT", "notification") => {
                let [put] = &xml::read(&call.body)[..] else { return Answer::text(400, "") };
                let (_, inner) = call.body.split_once("<TopicConfiguration>").unwrap();
                let inner = inner.strip_suffix("</NotificationConfiguration>").unwrap();
                notifications.insert(put.id.clone(), format!("<TopicConfiguration>{inner}"));
                Answer::text(200, "")
            }
            ("DELETE", _) => {
                notifications.remove(query.strip_prefix("notification=").unwrap());
                Answer::text(204, "")
            }
            _ => Answer::text(405, ""),
        }
    }

    fn sns(&mut self, call: &Call) -> Answer {
        let form: BTreeMap<String, String> =
            url::form_urlencoded::parse(call.body.as_bytes()).into_owned().collect();
        if form["Action"] == "DeleteTopic" {
            self.topics.remove(form["TopicArn"].rsplit(':').next().unwrap());
            return Answer::text(200, "");
        }
        assert_eq!(form["Action"], "CreateTopic");
        let attributes = (1..=2).map(|number| {
            let part = |part| form[&format!("Attributes.entry.{number}.{part}")].clone();
            (part("key"), part("value"))
        });
        self.topics.insert(form["Name"].clone(), attributes.collect());
        let arn = format!("arn:aws:sns:default::{}", form["Name"]);
        Answer::text(
            200,
            &format!(
                "<CreateTopicResponse xmlns=\"https://sns.amazonaws.com/doc/2010-03-31/\"><CreateTopicResult><TopicArn>{arn}</TopicArn></CreateTopicResult></CreateTopicResponse>"
            ),
        )
    }
}

struct Scene {
    rgw: Arc<Mutex<Rgw>>,
    server: Server,
    world: World,
    spec: CephGateway,
}

impl Scene {
    async fn new() -> Self {
        let rgw: Arc<Mutex<Rgw>> = Arc::default();
        for bucket in ["photos", "videos"] {
            rgw.lock().unwrap().buckets.insert(bucket.to_owned(), BTreeMap::new());
        }
        let answering = Arc::clone(&rgw);
        let server = Server::start(move |call| answering.lock().unwrap().answer(call)).await;
        let mut world = World::new();
        let given =
            [("gateway.accessKey", ACCESS), ("gateway.secretKey", SECRET), ("secretToken", TOKEN)];
        world.given = given.map(|(field, value)| (field, Secret::new(value))).into_iter().collect();
        let spec = CephGateway {
            endpoint: server.url.clone(),
            buckets: vec!["photos".to_owned()],
            ..CephGateway::default()
        };
        Self { rgw, server, world, spec }
    }

    fn gateway(&self) -> Gateway {
        let (ctx, _) = self.world.context("CephSource");
        registrar(&self.spec, &ctx).unwrap()
    }

    async fn ensure(
        &self,
        known: Option<&Known>,
        tell: bool,
    ) -> Result<Registered<Known>, RegistrationError> {
        self.gateway().ensure(known, tell).await
    }

    /// The ids of the notifications of a bucket.
    fn ids(&self, bucket: &str) -> Vec<String> {
        self.rgw.lock().unwrap().buckets[bucket].keys().cloned().collect()
    }

    fn topics(&self) -> Vec<String> {
        self.rgw.lock().unwrap().topics.keys().cloned().collect()
    }
}

#[tokio::test]
async fn a_topic_and_a_notification_are_made_and_then_looked_at() {
    let scene = Scene::new().await;
    let made = scene.ensure(None, true).await.unwrap();
    assert_eq!((made.lacking, made.known.arn.as_str()), (None, ARN));
    assert_eq!(scene.server.lines(), ["POST /", "PUT /photos?notification"]);
    let attributes = scene.rgw.lock().unwrap().topics["weft_default_one"].clone();
    assert_eq!(attributes["push-endpoint"], PUSH);
    assert_eq!(attributes["persistent"], "true");
    let put = scene.rgw.lock().unwrap().buckets["photos"]["weft_default_one-photos"].clone();
    let put = &xml::read(&put)[0];
    assert_eq!(put.topic, ARN);
    assert_eq!(put.events, ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"].map(str::to_owned).into());
    scene.ensure(Some(&made.known), false).await.unwrap();
    assert_eq!(scene.server.lines(), ["POST /", "GET /photos?notification"]);
    scene.ensure(Some(&made.known), true).await.unwrap();
    assert_eq!(scene.server.lines(), ["POST /", "PUT /photos?notification"]);
}

#[tokio::test]
async fn what_somebody_removed_is_made_again_and_what_others_made_stays() {
    let scene = Scene::new().await;
    let known = scene.ensure(None, true).await.unwrap().known;
    {
        let mut rgw = scene.rgw.lock().unwrap();
        rgw.topics.clear();
        let photos = rgw.buckets.get_mut("photos").unwrap();
        photos.clear();
        let theirs = "<TopicConfiguration><Id>theirs</Id><Topic>arn:x</Topic></TopicConfiguration>";
        photos.insert("theirs".to_owned(), theirs.to_owned());
    }
    assert_eq!(scene.ensure(Some(&known), false).await.unwrap().lacking, None);
    assert_eq!(scene.ids("photos"), ["theirs", "weft_default_one-photos"]);
    assert_eq!(scene.topics(), ["weft_default_one"]);
    scene.gateway().remove(Some(&known)).await.unwrap();
    assert_eq!(scene.ids("photos"), ["theirs"]);
    assert!(scene.topics().is_empty());
}

#[tokio::test]
async fn a_bucket_that_is_not_there_does_not_keep_the_others() {
    let mut scene = Scene::new().await;
    scene.spec.buckets = ["nowhere", "photos", "videos"].map(str::to_owned).to_vec();
    let made = scene.ensure(None, true).await.unwrap();
    let (reason, why) = made.lacking.unwrap();
    assert_eq!(reason, "UpstreamNotFound");
    let said =
        "bucket nowhere: have a bucket notified of: 127.0.0.1 answered 404 Not Found: NoSuchBucket";
    assert!(why.starts_with(said), "{why}");
    assert_eq!(scene.ids("photos").len() + scene.ids("videos").len(), 2);
    scene.rgw.lock().unwrap().buckets.insert("nowhere".to_owned(), BTreeMap::new());
    assert_eq!(scene.ensure(Some(&made.known), false).await.unwrap().lacking, None);
    assert_eq!(scene.ids("nowhere").len(), 1);
}

#[tokio::test]
async fn a_bucket_that_is_no_longer_named_is_no_longer_notified_of() {
    let mut scene = Scene::new().await;
    scene.spec.buckets.push("videos".to_owned());
    let known = scene.ensure(None, true).await.unwrap().known;
    scene.spec.buckets = vec!["videos".to_owned()];
    let known = scene.ensure(Some(&known), true).await.unwrap().known;
    assert!(scene.ids("photos").is_empty());
    assert_eq!(scene.ids("videos").len(), 1);
    scene.spec.topic = "another".to_owned();
    let known = scene.ensure(Some(&known), true).await.unwrap().known;
    assert_eq!(scene.topics(), ["another"]);
    assert_eq!(scene.ids("videos"), ["another-videos"]);
    scene.gateway().remove(Some(&known)).await.unwrap();
    assert!(scene.topics().is_empty() && scene.ids("videos").is_empty());
}

#[tokio::test]
async fn a_notification_that_cannot_be_removed_does_not_keep_the_others() {
    let mut scene = Scene::new().await;
    scene.spec.buckets.push("videos".to_owned());
    let known = scene.ensure(None, true).await.unwrap().known;
    scene.rgw.lock().unwrap().closed = Some("photos");
    let error = scene.gateway().remove(Some(&known)).await.unwrap_err();
    assert!(matches!(error, RegistrationError::Credentials { .. }), "{error}");
    assert!(scene.ids("videos").is_empty());
    // The one that stays needs it.
    assert_eq!(scene.topics(), ["weft_default_one"]);
}

#[tokio::test]
async fn what_was_made_before_its_answer_was_lost_is_removed_too() {
    let scene = Scene::new().await;
    scene.ensure(None, true).await.unwrap();
    scene.gateway().remove(None).await.unwrap();
    assert!(scene.topics().is_empty() && scene.ids("photos").is_empty());
    scene.gateway().remove(None).await.unwrap();
}

#[tokio::test]
async fn keys_are_not_shown_to_another_gateway() {
    let scene = Scene::new().await;
    let known = scene.ensure(None, true).await.unwrap().known;
    let other = Scene::new().await;
    other.ensure(Some(&known), true).await.unwrap();
    other.gateway().remove(Some(&known)).await.unwrap();
    assert_eq!(scene.topics(), ["weft_default_one"]);
}

#[tokio::test]
async fn a_refusal_is_said_by_its_code_and_repeats_no_secret() {
    let server = Server::start(|call| {
        let body = format!(
            "<Error><Code>SignatureDoesNotMatch</Code><Message>{}</Message></Error>",
            call.body
        );
        Answer::text(403, &body)
    })
    .await;
    let mut scene = Scene::new().await;
    scene.spec.endpoint = server.url.clone();
    let error = scene.ensure(None, true).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "make the topic: 127.0.0.1 answered 403 Forbidden: SignatureDoesNotMatch"
    );
    assert!(matches!(error, RegistrationError::Credentials { .. }));
    let shown = format!("{:?} {error:?}", scene.gateway());
    for secret in [ACCESS, SECRET, TOKEN, "it%20is"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn every_source_has_a_topic_of_its_own() {
    assert_eq!(topic("default", "one"), "weft_default_one");
    assert_ne!(topic("a-b", "c"), topic("a", "b-c"));
    assert_eq!(topic("a", "b.c"), "weft_a_b_c");
    let long = |last: &str| topic(&"n".repeat(63), &format!("{}{last}", "a".repeat(250)));
    assert_eq!(long("x").len(), 256);
    assert_ne!(long("x"), long("y"));
}
