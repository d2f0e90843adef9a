//! What a text that a recogniser has made so far says about the end of a turn.

use antiphon_core::voice::message::{Ending, Hint, TurnId};

/// Words and pairs of words that say "I listen", and nothing else.
const BACKCHANNELS: [&str; 26] = [
    "ah",
    "aha",
    "all right",
    "alright",
    "got it",
    "hm",
    "hmm",
    "i see",
    "mhm",
    "mm",
    "mm hmm",
    "mm-hmm",
    "mmhmm",
    "of course",
    "oh",
    "ok",
    "okay",
    "right",
    "sure",
    "uh huh",
    "uh-huh",
    "uhuh",
    "wow",
    "yeah",
    "yep",
    "yup",
];
/// Words that hold the floor.
const FILLERS: [&str; 10] = [
    "ah", "eh", "er", "erm", "hm", "hmm", "mm", "uh", "uhm", "um",
];
/// Words after which a sentence cannot end, whatever the punctuation.
const CONJUNCTIONS: [&str; 25] = [
    "a", "although", "an", "and", "as", "because", "but", "cause", "cuz", "either", "if", "my",
    "nor", "or", "our", "since", "than", "that's", "the", "their", "unless", "until", "whether",
    "while", "your",
];
/// Words after which one seldom does, unless punctuation says so.
const PREPOSITIONS: [&str; 22] = [
    "about", "at", "between", "by", "for", "from", "in", "into", "is", "like", "of", "on", "so",
    "that", "then", "to", "under", "via", "was", "with", "without", "would",
];
const NUMBERS: [&str; 13] = [
    "double", "eight", "five", "four", "nine", "oh", "one", "seven", "six", "three", "triple",
    "two", "zero",
];

/// The hint that a text gives. `complete` (0 to 1) and `backchannel` are a recogniser's own, where it has them.
#[must_use]
pub(super) fn hint(
    turn: TurnId,
    text: &str,
    complete: Option<f32>,
    backchannel: Option<bool>,
) -> Hint {
    let words = words(text);
    let spoken = count_spoken(&words);
    let backchannel = backchannel.unwrap_or(!words.is_empty() && spoken == 0);
    let complete = complete
        .filter(|it| it.is_finite())
        .map(|it| (it.clamp(0.0, 1.0) * 32_767.0) as u16);
    Hint {
        turn,
        words: if backchannel {
            0
        } else {
            u16::try_from(spoken).unwrap_or(u16::MAX)
        },
        backchannel,
        ending: ending(text, &words),
        complete,
    }
}

/// The words of a text, in small letters and without what surrounds them.
fn words(text: &str) -> Vec<String> {
    let bare = |word: &str| {
        let bare = word.trim_matches(|letter: char| !letter.is_alphanumeric());
        bare.replace('’', "'").to_lowercase()
    };
    let words = text.split_whitespace().map(bare);
    words.filter(|word| !word.is_empty()).collect()
}

/// Words that are no backchannel, alone or with a neighbour.
fn count_spoken(words: &[String]) -> usize {
    let (mut at, mut count) = (0, 0);
    while let Some(word) = words.get(at) {
        let pair = words.get(at + 1).map(|next| format!("{word} {next}"));
        if pair.is_some_and(|pair| BACKCHANNELS.contains(&pair.as_str())) {
            at += 2;
            continue;
        }
        if !BACKCHANNELS.contains(&word.as_str()) && !FILLERS.contains(&word.as_str()) {
            count += 1;
        }
        at += 1;
    }
    count
}

fn ending(text: &str, words: &[String]) -> Ending {
    let Some(last) = words.last().map(String::as_str) else {
        return Ending::Unknown;
    };
    let closing = |letter: char| letter.is_whitespace() || "\"'”’)]»".contains(letter);
    let text = text.trim_end_matches(closing);
    let trails_off = text.ends_with("...") || text.ends_with('…');
    let mark = text.chars().next_back().unwrap_or_default();
    match mark {
        '?' | '？' | '؟' => return Ending::Question,
        _ if FILLERS.contains(&last) => return Ending::Filler,
        _ if CONJUNCTIONS.contains(&last) => return Ending::Conjunction,
        '.' | '!' | '。' | '！' | '।' if !trails_off => return Ending::Period,
        _ => {}
    }
    if PREPOSITIONS.contains(&last) {
        Ending::Conjunction
    } else if ends_in_digits(words) {
        Ending::Digits
    } else if trails_off || ",;:-–—、，،".contains(mark) {
        Ending::Comma
    } else {
        Ending::Unknown
    }
}

/// A number in digits, or two words in a row that are digits: one alone ("I'd like two") is not being spelt.
fn ends_in_digits(words: &[String]) -> bool {
    let written = |word: &String| word.bytes().all(|byte| byte.is_ascii_digit());
    let is_digit = |word: &String| written(word) || NUMBERS.contains(&word.as_str());
    match words {
        [.., last] if written(last) => true,
        [.., before, last] => is_digit(before) && is_digit(last),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending_of(text: &str) -> Ending {
        hint(TurnId(1), text, None, None).ending
    }

    #[test]
    fn punctuation_and_last_words_say_how_a_text_ends() {
        for (text, expected) in [
            ("", Ending::Unknown),
            (" ... ", Ending::Unknown),
            ("I live in Paris.", Ending::Period),
            ("Stop that!", Ending::Period),
            ("He said \"yes.\"", Ending::Period),
            ("你好。", Ending::Period),
            ("Is it far?", Ending::Question),
            ("Where are you from?", Ending::Question),
            ("Is it, um?", Ending::Question),
            ("I went to Paris,", Ending::Comma),
            ("I went to Paris…", Ending::Comma),
            ("Well, Paris...", Ending::Comma),
            ("I went to Paris", Ending::Unknown),
            ("I went to Paris and", Ending::Conjunction),
            ("I went to Paris and.", Ending::Conjunction),
            ("I went to", Ending::Conjunction),
            ("That is what I looked for.", Ending::Period),
            ("I went to, um,", Ending::Filler),
            ("I went to um.", Ending::Filler),
            ("My number is 5 5", Ending::Digits),
            ("My number is 555-0", Ending::Unknown),
            ("My number is five five", Ending::Digits),
            ("My number is 555.", Ending::Period),
            ("I would like two", Ending::Unknown),
        ] {
            assert_eq!(ending_of(text), expected, "{text:?}");
        }
    }

    #[test]
    fn backchannels_are_told_from_words() {
        for (text, words, backchannel) in [
            ("", 0, false),
            ("Uh huh.", 0, true),
            ("uh-huh", 0, true),
            ("Yeah, right.", 0, true),
            ("I see. Okay", 0, true),
            ("um", 0, true),
            ("I see a dog", 4 - 2, false),
            ("No wait", 2, false),
            ("Yes", 1, false),
            ("okay, but listen", 2, false),
        ] {
            let hint = hint(TurnId(3), text, None, None);
            assert_eq!(
                (hint.words, hint.backchannel),
                (words, backchannel),
                "{text:?}"
            );
            assert_eq!((hint.turn, hint.complete), (TurnId(3), None));
        }
    }

    #[test]
    fn a_recognisers_own_judgement_goes_first() {
        let own = hint(TurnId(1), "ja genau", Some(0.5), Some(true));
        assert_eq!(
            (own.words, own.backchannel, own.complete),
            (0, true, Some(16_383))
        );
        let own = hint(TurnId(1), "okay", Some(7.0), Some(false));
        assert_eq!((own.backchannel, own.complete), (false, Some(32_767)));
        assert_eq!(hint(TurnId(1), "", Some(f32::NAN), None).complete, None);
        let many = "word ".repeat(70_000);
        assert_eq!(hint(TurnId(1), &many, None, None).words, u16::MAX);
    }
}
