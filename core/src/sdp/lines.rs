//! The line reader: CRLF or LF, each byte visited once, every limit by line number.

use crate::limits::{SDP_BYTES_MAX, SDP_LINE_BYTES_MAX, SDP_LINES_MAX};

use super::error::{Fault, SdpError};

/// One `x=value` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: u32,
    /// The letter before the equals sign.
    pub(super) letter: u8,
    /// What follows it, without the line end.
    pub(super) value: &'a str,
}

impl<'a> Line<'a> {
    /// Name and value of an attribute line; the value of a flag is empty.
    pub(super) fn attribute(&self) -> (&'a str, &'a str) {
        self.value.split_once(':').unwrap_or((self.value, ""))
    }
}

/// The lines of a description. Blank ones are counted and skipped.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    rest: &'a str,
    number: u32,
}

impl<'a> Lines<'a> {
    /// Refuses what is too long or not text before the first line is looked at.
    pub(super) fn new(text: &'a [u8]) -> Result<Self, SdpError> {
        if text.len() > SDP_BYTES_MAX {
            return Err(SdpError::whole(Fault::Bytes));
        }
        match std::str::from_utf8(text) {
            Ok(rest) => Ok(Self { rest, number: 0 }),
            Err(error) => {
                let before = text.iter().take(error.valid_up_to());
                let line = 1 + before.filter(|&&byte| byte == b'\n').count();
                Err(SdpError::at(line as u32, Fault::NotText))
            }
        }
    }

    /// The next line that is not blank; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Line<'a>>, SdpError> {
        while !self.rest.is_empty() {
            let (text, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            self.rest = rest;
            self.number += 1;
            if self.number as usize > SDP_LINES_MAX {
                return Err(self.fault(Fault::Limit {
                    what: "lines",
                    limit: SDP_LINES_MAX,
                }));
            }
            let text = text.strip_suffix('\r').unwrap_or(text);
            if text.len() > SDP_LINE_BYTES_MAX {
                let limit = SDP_LINE_BYTES_MAX;
                return Err(self.fault(Fault::Limit {
                    what: "bytes in a line",
                    limit,
                }));
            }
            if text
                .bytes()
                .any(|byte| byte.is_ascii_control() && byte != b'\t')
            {
                return Err(self.fault(Fault::ControlCharacter));
            }
            if text.is_empty() {
                continue;
            }
            return match text.as_bytes() {
                [letter, b'=', ..] if letter.is_ascii_alphabetic() => Ok(Some(Line {
                    number: self.number,
                    letter: *letter,
                    value: &text[2..],
                })),
                _ => Err(self.fault(Fault::LineForm)),
            };
        }
        Ok(None)
    }

    /// Lines taken so far, blank ones included.
    pub(super) fn count(&self) -> u32 {
        self.number
    }

    fn fault(&self, fault: Fault) -> SdpError {
        SdpError::at(self.number, fault)
    }
}
