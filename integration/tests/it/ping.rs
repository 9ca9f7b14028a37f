//! The Ping source, from YAML to subscriber.

use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::subscriber::Subscriber;

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_with_seconds_ticks_into_the_broker() {
    let subscriber = Subscriber::start().await;
    let ping = "---\napiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata:\n  name: beat\nspec:\n  schedule: \"* * * * * *\"\n  contentType: application/json\n  data: '{\"m\": 1}'\n  ceOverrides: {extensions: {team: blue}}\n  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}\n";
    let _mesh =
        Mesh::start(&format!("{BROKER}{}{ping}", trigger("t", &subscriber.url, "", &[]))).await;
    let got = subscriber.wait(2).await;
    assert_eq!(got[0].header("ce-type"), "dev.knative.sources.ping");
    assert_eq!(got[0].header("ce-source"), "/apis/v1/namespaces/default/pingsources/beat");
    assert_eq!(got[0].header("ce-team"), "blue");
    assert_eq!(got[0].body.as_ref(), br#"{"m": 1}"#);
    assert_ne!(got[0].id(), got[1].id());
}
