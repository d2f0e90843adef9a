//! A room that is busy: its next subscriber goes to another shard.

use std::time::Duration;

use antiphon_server::limits::HOME_SESSIONS;

use crate::peer::{Peer, run};
use crate::server::Server;
use crate::{
    PACKETS, PATIENCE, TO_SERVER, assert_heard_everything, follow, heard_all, runtimes, talk, total,
};

/// The shard of a session, by its public name.
fn shard_of(server: &Server, peer: &Peer) -> u64 {
    let stats = server.json(&format!("/api/sessions/{}/stats", peer.secret()));
    let id = stats["id"].as_str().expect("a name");
    let shard = id.split('-').next().expect("its first number");
    shard.parse().expect("a number")
}

#[test]
fn a_subscriber_on_another_shard_hears_everything_on_each_runtime() {
    for runtime in runtimes() {
        let more = [
            "--shards",
            "2",
            "--rate-limit",
            "0",
            "--max-sessions",
            "200",
        ];
        let server = Server::start(&[&["--runtime", runtime][..], &more].concat());
        let mut ann = Peer::join(&server, "/whip/hall?name=ann", &TO_SERVER);
        assert!(
            run(&mut [&mut ann], PATIENCE, |peers| peers[0].connected),
            "{runtime}"
        );
        // They only take seats, all of them where the room is.
        for number in 0..HOME_SESSIONS {
            Peer::join(
                &server,
                &format!("/whip/hall?name=guest-{number}"),
                &TO_SERVER,
            );
        }
        let mut bob = follow(&server, &mut ann);
        let shards = [&ann, &bob].map(|peer| shard_of(&server, peer));
        assert_ne!(shards[0], shards[1], "{runtime}");
        let mut peers = [&mut ann, &mut bob];
        assert!(
            run(&mut peers, PATIENCE, |peers| peers[1].connected),
            "{runtime}"
        );
        talk(&mut peers);
        assert!(run(&mut peers, PATIENCE, heard_all), "{runtime}");
        assert_heard_everything(&bob);
        let metrics = server.get("/metrics");
        let sent = total(&metrics, "antiphon_relays_sent_total");
        // Each packet, and what the shards have to say about the room.
        let least = u64::from(2 * PACKETS);
        assert!((least..least + 20).contains(&sent), "{runtime}: {sent}");
        assert_eq!(total(&metrics, "antiphon_relays_dropped_total"), 0);

        assert_eq!(server.delete(&bob.resource), 200);
        let mut peers = [&mut ann, &mut bob];
        assert!(
            run(&mut peers, PATIENCE, |peers| peers[1].closed),
            "{runtime}"
        );
        run(&mut [&mut ann], Duration::from_millis(50), |_| false);
        let before = total(&server.get("/metrics"), "antiphon_relays_sent_total");
        talk(&mut [&mut ann]);
        let after = total(&server.get("/metrics"), "antiphon_relays_sent_total");
        assert_eq!(before, after, "{runtime}: nobody follows elsewhere");
    }
}
