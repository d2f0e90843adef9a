//! The first word of the command line: which of its programs `antiphon` runs.
//!
//! Serving is the default. Each other program is a variant of [`Tool`] and
//! a module with its arguments and a `run`.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{load, replay, sim};

/// What `antiphon` does besides serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Tool {
    /// Makes many calls to a WHIP server and says what it took
    Load(Box<load::Arguments>),
    /// Plays a journal or a packet capture again and reports on it
    Replay(Box<replay::Arguments>),
    /// Runs a world of shards and clients in simulated time and judges it
    Sim(sim::Arguments),
}

/// The tools alone. Behind the server's options, which are global, each would list and take those too.
#[derive(Debug, Parser)]
#[command(name = "antiphon", version, about = "The tools of Antiphon")]
struct Tools {
    #[command(subcommand)]
    tool: Tool,
}

impl Tool {
    /// The tool that `arguments` (they begin with the program's name) ask for; `None` for those of the server.
    ///
    /// # Errors
    /// The tool's arguments are wrong, or ask for help.
    pub fn parse(arguments: &[OsString]) -> Result<Option<Self>, clap::Error> {
        let word = arguments.get(1).and_then(|word| word.to_str());
        let tools = Tools::command();
        if word.is_none_or(|word| tools.find_subcommand(word).is_none()) {
            return Ok(None);
        }
        Tools::try_parse_from(arguments).map(|tools| Some(tools.tool))
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self {
            Self::Load(arguments) => load::run(&arguments),
            Self::Replay(arguments) => replay::run(&arguments),
            Self::Sim(arguments) => sim::run(&arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Tool>, clap::Error> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Tool::parse(&words)
    }

    #[test]
    fn a_tool_is_named_by_the_first_word_and_everything_else_is_the_servers() {
        assert!(matches!(
            parse("antiphon replay file.pcap"),
            Ok(Some(Tool::Replay(_)))
        ));
        for line in [
            "antiphon",
            "antiphon serve",
            "antiphon --http 127.0.0.1:1 serve",
            "antiphon --help",
            "antiphon nonsense",
        ] {
            assert!(matches!(parse(line), Ok(None)), "{line}");
        }
    }

    #[test]
    fn a_tool_neither_lists_nor_takes_the_servers_options() {
        let help = parse("antiphon replay --help").unwrap_err().to_string();
        assert!(
            help.contains("--json") && !help.contains("--media-port"),
            "{help}"
        );
        assert!(parse("antiphon replay --media-port 1 file.pcap").is_err());
    }
}
