//! The evening that was lost (README.md, "Why"), replayed: a certificate without the new name, and the edge that says so.

use crate::support::edge::{Edge, PATIENCE, text};
use crate::support::engineio::{Socket, serve_default};
use crate::support::node::Interop;
use serde_json::json;

const OLD: &str = "recre.store";
const NEW: &str = "socket.recre.store";

#[tokio::test(flavor = "multi_thread")]
async fn the_missing_name_is_found_before_serving_and_fixed_under_an_open_game() {
    let app = serve_default().await;
    // Before: the board serves recre.store, with a game running.
    let edge = Edge::certified_for(&[OLD]).site(&[OLD], app).start();
    let mut game = Socket::open(&edge, OLD, "&uuId=before").await;
    game.join("/catch").await;
    assert_eq!(game.text().await, r#"42/catch,["caught","before"]"#);
    let good_bundle = std::fs::read(edge.desk().bundle_file()).unwrap();

    // The owner adds the new name and forgets the certificate.
    let toml = std::fs::read_to_string(edge.desk().toml()).unwrap();
    let added = toml
        .replace("\n[limits]", &format!("[[site]]\nhosts = [\"{NEW}\"]\nupstream = [\"{app}\"]\n\n[limits]"));
    assert_ne!(added, toml);
    std::fs::write(edge.desk().toml(), added).unwrap();
    let refused = edge.desk().bundle();
    let said = text(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("certbot certonly --expand -d recre.store -d socket.recre.store"), "{said}");
    assert!(said.contains("host-not-covered") && said.contains("covers only `recre.store`"), "{said}");
    assert_eq!(std::fs::read(edge.desk().bundle_file()).unwrap(), good_bundle, "the old bundle is untouched");
    assert!(edge.try_tls(NEW).await.is_err(), "a name that is not in the bundle gets no certificate");

    // A certificate with both names; the running edge takes it, and the game goes on.
    edge.desk().write_certificate(0, &[OLD, NEW]);
    edge.reload();
    game.send(r#"42/catch,["echo",1]"#).await;
    let mut player = Socket::open(&edge, NEW, "&uuId=bd6bf4b7-d4f6-49e8-9b84-e2b53818289f").await;
    player.join("/catch").await;
    assert_eq!(player.text().await, r#"42/catch,["caught","bd6bf4b7-d4f6-49e8-9b84-e2b53818289f"]"#);
    edge.wait_for_log("msg=reloaded", PATIENCE);
    edge.stop();
}

#[test]
fn the_client_of_the_story_connects_to_its_namespace() {
    let Some(interop) = Interop::ready("the_client_of_the_story_connects_to_its_namespace") else { return };
    let (_server, port) = interop.server(&json!({}));
    let edge = Edge::certified_for(&[OLD, NEW]).site(&[NEW], format!("127.0.0.1:{port}")).start();
    interop.client(&edge, NEW, "story", &json!({})).finish();
    edge.stop();
}
