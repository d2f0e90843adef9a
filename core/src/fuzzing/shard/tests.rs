//! What the judges look at happens: else they would judge nothing.

use super::*;

const ANN: Wish = Wish::Publish {
    room: false,
    participant: false,
};
const BOB: Wish = Wish::Publish {
    room: false,
    participant: true,
};
/// Of Ann's and Bob's room, on the other shard.
const ELSEWHERE: Wish = Wish::FollowNewest {
    shard: true,
    room: false,
};

fn model() -> Model {
    Model::new(
        [0, 1]
            .map(|shard| World::on(ShardId(shard), SESSIONS_MAX))
            .into(),
    )
}

fn join(model: &mut Model, wish: Wish) -> usize {
    let index = model.join(wish).expect("there is room");
    model.carry();
    index
}

/// How many packets of a speaker somebody has heard.
fn heard(model: &Model, listener: usize, speaker: usize) -> usize {
    let mut all = model.heard.iter();
    all.by_ref()
        .filter(|heard| heard.is(listener, speaker))
        .count()
}

#[test]
fn a_follower_elsewhere_hears_and_has_a_picture_again() {
    let mut model = model();
    let (ann, far) = (join(&mut model, ANN), join(&mut model, ELSEWHERE));
    for talk in [Talk::Sound, Talk::Picture { key: true }] {
        model.say(ann, talk);
    }
    assert_eq!(heard(&model, far, ann), 2);
    assert!(model.sessions[far].picture.is_some());
    model.ask(far, false);
    assert_eq!(model.shared(0), (1, 0, 2));
    assert_eq!(model.shared(1), (1, 1, 0));
    model.judge_tables();
    model.finish();
}

#[test]
fn who_comes_is_not_heard_elsewhere_while_that_is_lost_until_it_heals() {
    let mut model = model();
    let (_, far) = (join(&mut model, ANN), join(&mut model, ELSEWHERE));
    model.lanes.stand_still(9);
    let bob = model.join(BOB).expect("there is room");
    model.gather();
    model.lose(0, 0);
    model.lanes.go_on();
    model.carry();
    model.say(bob, Talk::Sound);
    model.carry();
    assert_eq!(heard(&model, far, bob), 0);
    model.heal(room_of(false));
    let healed = heard(&model, far, bob);
    assert!(healed > 0);
    model.say(bob, Talk::Sound);
    assert_eq!(heard(&model, far, bob), healed + 1);
    model.finish();
}

/// The same judge lets a mix of others be loud, and would find one's own voice in it.
#[cfg(feature = "opus")]
#[test]
fn a_mix_is_silent_to_who_speaks_and_loud_to_others() {
    for (own, loud) in [(None, true), (Some(true), true), (Some(false), false)] {
        let mut model = model();
        let ann = join(&mut model, ANN);
        join(&mut model, Wish::Mix { room: false, own });
        let mut longest = 0;
        for _ in 0..20 {
            model.say(ann, Talk::Sound);
            let listeners = model.mix_listeners();
            let step = Duration::from_millis(20);
            for world in &mut model.worlds {
                world.now = world.now + step;
                world.turn();
                world.events.clear();
            }
            model.latest = model.worlds[0].now;
            longest = longest.max(model.judge_mixes(&listeners, step));
        }
        assert_eq!(
            longest > rooms::SILENT_BYTES_MAX,
            loud,
            "{own:?}: {longest} bytes"
        );
        model.finish();
    }
}
