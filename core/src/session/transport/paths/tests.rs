use super::*;

fn path(remote_port: u16) -> Path {
    Path {
        local: ([192, 0, 2, 1], 40_000).into(),
        remote: ([198, 51, 100, 7], remote_port).into(),
    }
}

fn ms(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn check(priority: u32, nominates: bool) -> Check {
    Check {
        priority,
        nominates,
        generation: 0,
    }
}

/// A path first nominated at `first` and last at `last`, silent since `active`.
fn standing(port: u16, priority: u32, nominated: Option<(u64, u64)>, active: u64) -> Standing {
    Standing {
        path: path(port),
        priority,
        generation: 0,
        active: ms(active),
        checked: ms(active),
        nominated: nominated.map(|(first, last)| (ms(first), ms(last))),
        asked: None,
        answered: false,
    }
}

/// Before the handshake no path is asked anything.
fn note_check(paths: &mut Paths, now: Timestamp, path: Path, check: Check) -> Checked {
    let checked = paths.note_check(now, path, check);
    assert_eq!(paths.consider(now, path), None);
    checked
}

fn note_media(paths: &mut Paths, now: Timestamp, path: Path) {
    if paths.note_media(now, path) {
        assert_eq!(paths.consider(now, path), None);
    }
}

const NOW: u64 = 100_000;

/// What happens, the priorities of the current path and of the candidate, when the candidate was first
/// nominated, how many ms the current path has been silent, and whether it moves at [`NOW`].
type Row = (&'static str, u32, u32, Option<u64>, u64, bool);

const ROWS: [Row; 10] = [
    ("a rebinding moves at once", 100, 100, Some(NOW), 0, true),
    (
        "a better pair of the set-up moves at once",
        100,
        200,
        Some(NOW),
        0,
        true,
    ),
    (
        "a new but lesser path waits",
        100,
        50,
        Some(NOW),
        499,
        false,
    ),
    (
        "a new but lesser path moves after silence",
        100,
        50,
        Some(NOW),
        500,
        true,
    ),
    (
        "an old path of the same priority waits",
        100,
        100,
        Some(1),
        499,
        false,
    ),
    (
        "an old path of the same priority comes back",
        100,
        100,
        Some(1),
        500,
        true,
    ),
    (
        "a repeated nomination of a lesser path waits",
        100,
        50,
        Some(1),
        2_999,
        false,
    ),
    (
        "a repeated nomination wins in the end",
        100,
        50,
        Some(1),
        3_000,
        true,
    ),
    (
        "a check that nominates nothing waits longer",
        100,
        200,
        None,
        7_999,
        false,
    ),
    (
        "a check that nominates nothing wins in the end",
        100,
        200,
        None,
        8_000,
        true,
    ),
];

#[test]
fn each_row_of_the_rule_decides_as_documented() {
    for (what, ours, theirs, first, silence, moves) in ROWS {
        let current = standing(1, ours, Some((10, NOW - 10_000)), NOW - silence);
        let candidate = standing(2, theirs, first.map(|first| (first, NOW)), NOW);
        assert_eq!(decide_path(ms(NOW), &current, &candidate), moves, "{what}");
    }
}

#[test]
fn a_nomination_is_new_until_the_path_in_use_is_nominated_again() {
    let candidate = standing(2, 100, Some((1_000, 2_000)), 2_000);
    let before = standing(1, 100, Some((10, 1_000)), 2_000);
    let after = standing(1, 100, Some((10, 1_001)), 2_000);
    assert!(decide_path(ms(2_000), &before, &candidate));
    assert!(!decide_path(ms(2_000), &after, &candidate));
}

#[test]
fn a_second_local_address_for_the_same_remote_is_no_rebinding() {
    let current = standing(1, 100, Some((10, 10)), 1_000);
    let mut candidate = standing(1, 100, Some((1_000, 1_000)), 1_000);
    candidate.path.local = ([192, 0, 2, 2], 40_000).into();
    assert!(!decide_path(ms(1_000), &current, &candidate));
}

#[test]
fn after_a_restart_only_a_nomination_moves_and_nothing_moves_back() {
    let old = standing(1, 900, Some((10, 1_000)), 1_000);
    let mut new = standing(2, 100, None, 1_000);
    new.generation = 1;
    assert!(
        !decide_path(ms(1_000), &old, &new),
        "checked, not nominated"
    );
    new.nominated = Some((ms(1_000), ms(1_000)));
    assert!(decide_path(ms(1_000), &old, &new));
    assert!(
        !decide_path(ms(90_000), &new, &old),
        "however silent the new one is"
    );
}

#[test]
fn a_peer_that_nominates_every_pair_settles_on_the_best_and_stays() {
    let mut paths = Paths::new();
    let mut moves = Vec::new();
    // Three pairs, worst first; then each is checked every 2.5 s for a minute, and nothing else comes.
    for round in 0..24 {
        for (index, priority) in [50, 90, 100].into_iter().enumerate() {
            let now = ms(round * 2_500 + 20 * index as u64);
            note_check(&mut paths, now, path(index as u16), check(priority, true));
            if moves.last() != paths.send_path().as_ref() {
                moves.push(paths.send_path().unwrap());
            }
        }
    }
    assert_eq!(moves, [path(0), path(1), path(2)]);
}

#[test]
fn before_nomination_the_path_follows_dtls() {
    let mut paths = Paths::new();
    assert_eq!(paths.send_path(), None);
    note_check(&mut paths, ms(0), path(1), check(100, false));
    note_check(&mut paths, ms(1), path(2), check(50, false));
    assert_eq!(paths.send_path(), Some(path(1)));
    paths.note_dtls(path(2));
    assert_eq!(paths.send_path(), Some(path(2)));
    // From here on only the path in use may do without an answer.
    paths.note_dtls(path(1));
    assert_eq!(paths.send_path(), Some(path(2)));
    paths.note_check(ms(2), path(1), check(100, true));
    let question = paths.consider(ms(2), path(1)).expect("it must answer");
    assert_eq!(paths.send_path(), Some(path(2)));
    assert_eq!(paths.question(path(1)), Some(question));
    paths.note_answer(path(1));
    assert_eq!(paths.consider(ms(3), path(1)), None);
    assert_eq!(paths.send_path(), Some(path(1)));
    assert_eq!(paths.question(path(1)), None);
}

#[test]
fn a_path_in_use_is_nominated_without_a_question() {
    let mut paths = Paths::new();
    paths.note_check(ms(0), path(1), check(100, false));
    paths.note_dtls(path(1));
    paths.note_check(ms(1), path(1), check(100, true));
    assert_eq!(paths.consider(ms(1), path(1)), None);
    // Nor is one asked that the handshake went over and that we come back to.
    paths.note_connected();
    paths.note_check(ms(2), path(2), check(100, true));
    assert!(paths.consider(ms(2), path(2)).is_some());
    paths.note_answer(path(2));
    assert_eq!(paths.consider(ms(2), path(2)), None);
    paths.note_check(ms(1_000), path(1), check(100, true));
    assert_eq!(paths.consider(ms(1_000), path(1)), None);
    assert_eq!(paths.send_path(), Some(path(1)));
}

#[test]
fn media_on_a_nominated_path_moves_us_once_the_other_is_silent() {
    let mut paths = Paths::new();
    note_check(&mut paths, ms(0), path(1), check(100, true));
    note_media(&mut paths, ms(990), path(1));
    // The peer steps down to a lesser network of its own will, and says so once.
    note_check(&mut paths, ms(1_000), path(2), check(50, true));
    note_media(&mut paths, ms(1_480), path(2));
    assert_eq!(paths.send_path(), Some(path(1)));
    note_media(&mut paths, ms(1_490), path(2));
    assert_eq!(paths.send_path(), Some(path(2)));
}

#[test]
fn media_proves_nothing() {
    let mut paths = Paths::new();
    note_check(&mut paths, ms(0), path(1), check(100, true));
    note_media(&mut paths, ms(60_000), path(2));
    assert!(!paths.is_proved(path(2)));
    assert_eq!(paths.send_path(), Some(path(1)));
    assert_eq!(paths.last_check(), Some(ms(0)), "media is no consent");
}

#[test]
fn consent_is_counted_on_the_path_in_use() {
    let mut paths = Paths::new();
    assert_eq!(paths.last_check(), None);
    note_check(&mut paths, ms(0), path(1), check(100, true));
    note_check(&mut paths, ms(1_000), path(2), check(50, false));
    assert_eq!(paths.last_check(), Some(ms(0)));
    note_check(&mut paths, ms(2_000), path(1), check(100, false));
    assert_eq!(paths.last_check(), Some(ms(2_000)));
}

#[test]
fn one_path_too_many_displaces_the_one_silent_longest_but_never_the_one_in_use() {
    let mut paths = Paths::new();
    let count = SESSION_PATHS_MAX as u16;
    for port in 0..count {
        let now = ms(u64::from(port));
        let checked = note_check(&mut paths, now, path(port), check(100, port == 0));
        assert_eq!(
            checked,
            Checked {
                newly_proved: true,
                forgotten: None
            }
        );
    }
    let checked = note_check(&mut paths, ms(100), path(count), check(10, false));
    assert_eq!(
        checked,
        Checked {
            newly_proved: true,
            forgotten: Some(path(1))
        }
    );
    assert_eq!(paths.send_path(), Some(path(0)));
    assert!(paths.is_proved(path(0)) && !paths.is_proved(path(1)) && paths.is_proved(path(count)));
    for port in 1_000..3_000 {
        note_check(
            &mut paths,
            ms(u64::from(port)),
            path(port),
            check(10, false),
        );
        assert_eq!(paths.iter().count(), SESSION_PATHS_MAX);
        assert_eq!(paths.send_path(), Some(path(0)));
    }
    let known = note_check(&mut paths, ms(9_000), path(2_999), check(10, false));
    assert_eq!(known, Checked::default(), "a known path displaces nothing");
}
