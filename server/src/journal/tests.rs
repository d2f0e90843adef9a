use std::panic::{AssertUnwindSafe, catch_unwind};

use antiphon_core::drive::{Port, RecvBatch, TransmitBatch, Turn, Turner as _};
use antiphon_core::ids::RequestId;
use antiphon_core::journal::{EndReason, Player, ReadError, Reader, Step};
use antiphon_core::message::{Command, Event};
use antiphon_core::rng::Seed;
use antiphon_core::session::transport::Identity;
use antiphon_core::shard::{ShardConfig, Tuning};
use antiphon_core::time::Timestamp;
use antiphon_udp::Clock;

use super::*;

/// Asks a shard for its figures each turn.
#[derive(Default)]
struct Asking {
    asked: bool,
    answers: u64,
    /// Instead of taking an answer.
    panics: bool,
}

impl Port for Asking {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn recv(&mut self, _batch: &mut RecvBatch) {}

    fn next_command(&mut self) -> Option<Command> {
        self.asked = !self.asked;
        let request = RequestId(self.answers);
        self.asked.then_some(Command::ShardStats { request })
    }

    fn send(&mut self, _batch: &mut TransmitBatch) {}

    fn emit(&mut self, _event: Event) {
        assert!(!self.panics, "a panic outside any session");
        self.answers += 1;
    }
}

/// Turns so far apart that two of them make a chunk.
fn turn(pump: &mut Pump, port: &mut Asking, turns: std::ops::Range<u64>) {
    for number in turns {
        let now = Timestamp::from_millis(250 * number);
        let _wait = pump.turn(now, port);
    }
}

fn shard() -> Shard {
    let identity = Identity::generate().expect("crypto works");
    let config = ShardConfig {
        identity: Arc::new(identity),
        sessions_max: 10,
        tuning: Tuning::default(),
    };
    let epoch = Clock::start().epoch();
    Shard::new(ShardId(0), Arc::new(config), epoch, Seed::new([7; 32])).expect("it is in range")
}

fn choice(name: &str) -> JournalChoice {
    let name = format!("antiphon-journal-{}-{name}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir(&folder).expect("the temporary folder can be written");
    JournalChoice {
        folder,
        payloads: Payloads::Full,
        retention: Retention::Whole { budget: 1 << 20 },
    }
}

/// A handle whose messages nobody takes, as of a writer that hangs.
fn hung(choice: &JournalChoice) -> (JournalHandle, Receiver<Message>) {
    let (messages, received) = mpsc::channel();
    let handle = JournalHandle {
        choice: Arc::new(choice.clone()),
        messages,
        figures: Arc::default(),
    };
    (handle, received)
}

fn place(handle: &JournalHandle) -> Place {
    Place {
        folder: handle.choice.folder.clone(),
        run: "test".to_owned(),
    }
}

fn writer(handle: &JournalHandle, file: File) -> Writer {
    Writer::whole(
        place(handle),
        vec![file],
        1 << 20,
        Arc::clone(&handle.figures),
    )
}

/// A writer that takes the messages there are, then ends.
fn write(handle: &JournalHandle, file: File, received: &Receiver<Message>) {
    handle.messages.send(Message::End).expect("it is received");
    writer(handle, file).run(received);
}

#[test]
fn what_a_hung_writer_has_no_room_for_is_counted_and_the_file_says_where() {
    let choice = choice("hung");
    let path = choice.folder.join("hung.journal");
    let (handle, received) = hung(&choice);
    let mut pump = handle.clone().record(shard());
    let (mut port, chunks) = (Asking::default(), JOURNAL_CHUNKS as u64);
    turn(&mut pump, &mut port, 0..2 * chunks);
    assert_eq!(handle.figures().records_lost(), 0);
    turn(&mut pump, &mut port, 2 * chunks..2 * chunks + 7);
    let lost = handle.figures().records_lost();
    assert!(lost >= 18, "three chunks of two turns: {lost}");
    assert_eq!(port.answers, 2 * chunks + 7, "the shard did not wait");
    // The last chunk is taken all the same: else nobody would say what is missing.
    drop(pump);
    assert_eq!(handle.figures().records_lost(), lost);

    write(&handle, create(&path).expect("it is new"), &received);
    let journal = std::fs::read(&path).expect("it is there");
    let (header, reader) = Reader::new(&journal).expect("it begins well");
    let mut player = Player::new(&header, reader).expect("a shard can be made of it");
    let (mut told, mut end) = (0, None);
    while let Some(step) = player.step(&mut ()) {
        match step.expect("it is whole") {
            Step::Lost(missing) => {
                told = missing.records;
                assert_eq!((player.played(), player.difference()), (2 * chunks, None));
            }
            Step::End(reason) => end = Some(reason),
            _ => {}
        }
    }
    assert_eq!((told, end), (lost, Some(EndReason::Stopped)));
    assert_eq!(player.played(), 2 * chunks + 1);
    std::fs::remove_dir_all(&choice.folder).expect("it is ours");
}

#[test]
fn room_is_made_by_the_writer_and_the_loss_is_told_before_what_follows() {
    let choice = choice("late");
    let path = choice.folder.join("late.journal");
    let (handle, received) = hung(&choice);
    let mut pump = handle.clone().record(shard());
    let (mut port, chunks) = (Asking::default(), JOURNAL_CHUNKS as u64);
    turn(&mut pump, &mut port, 0..2 * chunks + 6);
    let file = create(&path).expect("it is new");
    let mut writer = writer(&handle, file);
    received
        .try_iter()
        .for_each(|message| writer.handle(message));
    turn(&mut pump, &mut port, 2 * chunks + 6..2 * chunks + 8);
    drop(pump);
    received
        .try_iter()
        .for_each(|message| writer.handle(message));
    let journal = std::fs::read(&path).expect("it is there");
    let (header, reader) = Reader::new(&journal).expect("it begins well");
    let mut player = Player::new(&header, reader).expect("a shard can be made of it");
    let (mut lost, mut end) = (0, None);
    while let Some(step) = player.step(&mut ()) {
        match step.expect("it is whole") {
            Step::Lost(missing) => lost = missing.records,
            Step::End(reason) => end = Some(reason),
            _ => {}
        }
    }
    assert_eq!(player.played(), 2 * chunks + 2);
    assert_eq!(lost, handle.figures().records_lost());
    assert_eq!(end, Some(EndReason::Stopped));
    std::fs::remove_dir_all(&choice.folder).expect("it is ours");
}

/// A ring's too, whose chunks begin with something even if nothing happens.
#[test]
fn a_shard_that_falls_quiet_is_woken_once_to_hand_over_what_it_has() {
    let mut choice = choice("quiet");
    for retention in [
        Retention::Whole { budget: 1 << 20 },
        Retention::Ring { bytes: 1 << 20 },
    ] {
        choice.retention = retention;
        let (handle, received) = hung(&choice);
        let mut pump = handle.record(shard());
        let mut port = Asking::default();
        let handed_over = || {
            let messages = received.try_iter();
            messages
                .filter(|message| matches!(message, Message::Chunk(..)))
                .count()
        };
        let wait = |deadline| Turn::Wait {
            deadline,
            writable: false,
        };
        let due = Timestamp::from_millis(250);
        assert_eq!(pump.turn(Timestamp::ZERO, &mut port), wait(Some(due)));
        assert_eq!(handed_over(), 0);
        // It has asked, and asks nothing now.
        port.asked = true;
        assert_eq!(pump.turn(due, &mut port), wait(None));
        assert_eq!(handed_over(), 1);
        assert_eq!(port.answers, 1);
    }
    std::fs::remove_dir_all(&choice.folder).expect("it is ours");
}

#[test]
fn a_full_disk_ends_the_journal_and_nothing_else() {
    let choice = choice("full");
    let (handle, received) = hung(&choice);
    let mut pump = handle.clone().record(shard());
    let mut port = Asking::default();
    turn(&mut pump, &mut port, 0..2);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    write(&handle, full.expect("Linux has it"), &received);
    assert_eq!(handle.figures().bytes(), 0);
    turn(&mut pump, &mut port, 2..20);
    assert_eq!(port.answers, 20, "the shard goes on");
    assert_eq!(handle.figures().records_lost(), 0, "nothing is recorded");
    std::fs::remove_dir_all(&choice.folder).expect("it is ours");
}

#[test]
fn a_panic_in_a_turn_writes_the_ring_up_to_where_it_was() {
    let retention = Retention::Ring { bytes: 1 << 20 };
    let choice = JournalChoice {
        retention,
        ..choice("panic")
    };
    let (handle, received) = hung(&choice);
    let mut pump = handle.clone().record(shard());
    let mut port = Asking::default();
    turn(&mut pump, &mut port, 0..3);
    port.panics = true;
    let panicked = catch_unwind(AssertUnwindSafe(move || turn(&mut pump, &mut port, 3..4)));
    panicked.expect_err("the port panics");

    let figures = Arc::clone(&handle.figures);
    let mut writer = Writer::rings(place(&handle), 1, 1 << 20, figures);
    received
        .try_iter()
        .for_each(|message| writer.handle(message));
    assert_eq!(handle.figures().dumps(), 1);
    let path = place(&handle).path(0, "-dump-1");
    let journal = std::fs::read(path).expect("it was written");
    let (header, reader) = Reader::new(&journal).expect("it begins well");
    let mut player = Player::new(&header, reader).expect("a shard can be made of it");
    let mut error = None;
    while let Some(step) = player.step(&mut ()) {
        error = step.err();
    }
    assert!(
        matches!(error, Some(ReadError::CutOff { .. })),
        "nothing is damaged: {error:?}"
    );
    assert_eq!((player.played(), player.difference()), (3, None));
    std::fs::remove_dir_all(&choice.folder).expect("it is ours");
}
