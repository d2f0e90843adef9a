//! Who says what. One half is for tuning, the other for the figures that are reported; they share nothing.

use crate::dialogues::speech::Voice;

/// One half of the material.
#[derive(Clone, Copy, Debug)]
pub struct Half {
    /// Persons.
    pub voices: &'static [Voice],
    /// Turns: the clauses of each, between which there are pauses.
    pub turns: &'static [&'static [&'static str]],
    /// Sentences that are cut in two at a random word, as who searches for one does.
    pub cut: &'static [&'static str],
    /// What interrupts.
    pub interruptions: &'static [&'static str],
    /// What agrees and does not interrupt.
    pub backchannels: &'static [&'static str],
    /// What the agent says.
    pub agent: &'static [&'static str],
}

const fn voice(name: &'static str, speed: u16, pitch: u8) -> Voice {
    Voice { name, speed, pitch }
}

/// What constants are tuned on.
pub const TUNING: Half = Half {
    voices: &[
        voice("en-us+m1", 165, 50),
        voice("en-gb+f2", 175, 50),
        voice("en-gb-scotland+m3", 155, 45),
        voice("en-us+f4", 185, 55),
    ],
    turns: &[
        &[
            "I would like to change my booking,",
            "the one for Friday evening,",
            "to a table for six.",
        ],
        &["Well, the thing is,", "my brother is coming too."],
        &["Could you tell me when the last train leaves?"],
        &["Yes."],
        &[
            "My number is four, seven, one,",
            "nine, nine, two,",
            "zero, three.",
        ],
        &["I need a room with, um,", "two beds and a desk."],
        &["Let me think...", "Thursday would be better for me."],
        &["No, that is not what I asked for."],
        &["If the weather is good,", "we could meet in the park."],
        &["Is there a bus,", "or should I take a taxi?"],
        &[
            "So I called them yesterday, and...",
            "nobody answered the telephone.",
        ],
        &["That sounds good to me."],
    ],
    cut: &[
        "I am looking for a small present for my older sister.",
        "The parcel should have been delivered on Monday morning.",
        "Can you send the invoice to my new address in London?",
        "We were hoping to stay at the hotel near the harbour.",
    ],
    interruptions: &[
        "No wait, I meant Tuesday.",
        "Stop, that is the wrong one.",
        "Sorry, can you say that again?",
    ],
    backchannels: &["Uh huh.", "Right.", "Okay."],
    agent: &[
        "Your order has been received and will be sent to you within the next three working days, unless you would \
         rather collect it at the shop yourself.",
        "There are two trains in the afternoon, one of them with a change in the capital, and the other one goes all \
         the way to the coast.",
    ],
};

/// What is reported.
pub const REPORTED: Half = Half {
    voices: &[
        voice("en-gb+m7", 170, 50),
        voice("en-us+f5", 160, 50),
        voice("en-gb-x-rp+m4", 180, 40),
        voice("en-029+f3", 170, 60),
    ],
    turns: &[
        &[
            "We want to see the museum,",
            "the old one by the river,",
            "before it closes.",
        ],
        &["To be honest,", "I have forgotten my password."],
        &["What does the large one cost?"],
        &["Sure."],
        &[
            "It is flight eight, two, six,",
            "from gate number,",
            "fifteen.",
        ],
        &["She lives in, er,", "a village near the border."],
        &["Hold on...", "it must be in my other bag."],
        &["I have already paid for this twice."],
        &[
            "When you have finished the report,",
            "please send me a copy.",
        ],
        &["Do you have it in blue,", "or is green all there is?"],
        &[
            "He said he would come, but...",
            "I have not seen him since.",
        ],
        &["Thank you, this was very helpful."],
    ],
    cut: &[
        "My daughter has left her jacket in the gym at school.",
        "There is a strange noise whenever I start the engine.",
        "Would it be possible to move the meeting to the afternoon?",
        "The doctor told me to take one of these every evening.",
    ],
    interruptions: &[
        "Hang on, that is too expensive.",
        "Let me ask you something else.",
        "Excuse me, which street was that?",
    ],
    backchannels: &["Mm hmm.", "Yeah.", "I see."],
    agent: &[
        "The garden is open from nine in the morning until sunset, and visitors may bring their own food, as long as \
         they take everything home again.",
        "I have found four offers that match, the cheapest of which is in the next town, while the nearest is just \
         around the corner from you.",
    ],
};
