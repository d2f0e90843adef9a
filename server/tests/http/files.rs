//! The program from outside: flags, variables, files, and what it says when they are wrong.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use antiphon_server::config::{Config, LogFormat, RuntimeChoice, TlsChoice, VoiceQuality};

fn antiphon(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_antiphon"));
    command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied());
    command.output().expect("the program runs")
}

/// What it says when it refuses to start.
fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = antiphon(arguments, variables);
    assert!(!output.status.success(), "it started: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn write(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the test folder can be written");
    path.display().to_string()
}

/// Each source names an address that is refused, so that the refusal tells which one counted.
#[test]
fn a_flag_goes_over_a_variable_over_the_file() {
    let file = write("order.toml", "http = \"192.0.2.3:3\"");
    let variable = ("ANTIPHON_HTTP", "192.0.2.2:2");
    let config = ["--config", &file];
    let from_file = refusal(&config, &[]);
    assert!(
        from_file.contains("http = 192.0.2.3:3") && from_file.contains("insecure"),
        "{from_file}"
    );
    assert!(refusal(&config, &[variable]).contains("http = 192.0.2.2:2"));
    let flags = ["serve", "--http", "192.0.2.1:1", "--config", &file];
    assert!(refusal(&flags, &[variable]).contains("http = 192.0.2.1:1"));
    assert!(refusal(&[], &[("ANTIPHON_CONFIG", &file)]).contains("http = 192.0.2.3:3"));
}

#[test]
fn a_wrong_flag_or_variable_is_named_with_its_value_and_what_is_allowed() {
    let cases: [(&[&str], &[&str]); 13] = [
        (
            &["--http", "nowhere"],
            &["--http", "nowhere", "127.0.0.1:8080"],
        ),
        (
            &["--media-port", "70000"],
            &["--media-port", "70000", "0 to 65535"],
        ),
        (
            &["--runtime", "async"],
            &["--runtime", "async", "tokio", "glommio", "smol", "auto"],
        ),
        (
            &["--announce", "my.host"],
            &["--announce", "my.host", "192.0.2.1"],
        ),
        (&["--shards", "0"], &["--shards", "0", "1 to 256"]),
        (&["--shards", "100000"], &["--shards", "100000", "1 to 256"]),
        (&["--shards", "many"], &["--shards", "many", "1 to 256"]),
        (
            &["--max-sessions", "-1"],
            &["--max-sessions", "-1", "1 to 1000000"],
        ),
        (
            &["--rate-limit", "99999999999999999999"],
            &["--rate-limit", "99999999999999999999", "0 to 1000000"],
        ),
        (
            &["--drain-seconds", "1.5"],
            &["--drain-seconds", "1.5", "0 to 3600"],
        ),
        (
            &["--max-coalesce", "20000"],
            &["--max-coalesce", "20000", "0 to 10000"],
        ),
        (&["--htpp", "x"], &["--htpp", "--http"]),
        (&["--tls-cert", "c.pem"], &["tls_cert", "c.pem", "tls_key"]),
    ];
    for (arguments, words) in cases {
        let said = refusal(arguments, &[]);
        for word in words {
            assert!(said.contains(word), "{arguments:?} said {said}");
        }
    }
    let said = refusal(&[], &[("ANTIPHON_LOG_FORMAT", "xml")]);
    assert!(
        said.contains("log-format") && said.contains("xml") && said.contains("json"),
        "{said}"
    );
    assert!(refusal(&[], &[("ANTIPHON_HTPP", "x")]).contains("ANTIPHON_HTPP"));
}

#[test]
fn a_wrong_file_is_named_by_line_key_and_what_is_allowed() {
    let cases = [
        ("htpp = \"x\"", &["htpp", "line 1", "`http`"][..]),
        (
            "\nhttp = \"nowhere\"",
            &["line 2", "http = \"nowhere\"", "127.0.0.1:8080"],
        ),
        ("media_port = 70000", &["media_port", "70000", "0 to 65535"]),
        ("runtime = \"async\"", &["async", "tokio", "auto"]),
        ("announce = [\"my.host\"]", &["my.host", "192.0.2.1"]),
        ("shards = 1000", &["shards", "1000", "1 to 256"]),
        ("shards = 100000", &["shards", "100000", "1 to 256"]),
        ("shards = \"many\"", &["shards", "many", "1 to 256"]),
        ("rate_limit = -1", &["rate_limit", "-1", "0 to 1000000"]),
        ("max_sessions = 0", &["max_sessions", "1 to 1000000"]),
        (
            "media_port = 65535\nshards = 2",
            &["media_port", "65535", "2 shards"],
        ),
        ("announce = [\"0.0.0.0\"]", &["announce", "0.0.0.0"]),
        (
            "cors_origin = [\"example.org\"]",
            &["cors_origin", "example.org", "https://"],
        ),
        (
            "http = \"0.0.0.0:80\"",
            &["http", "0.0.0.0:80", "token_file", "insecure"],
        ),
        ("insecure = \"yes\"", &["insecure", "boolean"]),
    ];
    for (text, words) in cases {
        let said = Config::from_toml(text).expect_err(text).to_string();
        for word in words {
            assert!(said.contains(word), "{text:?} said {said}");
        }
    }
    assert!(refusal(&["--config", "/no/such/file.toml"], &[]).contains("/no/such/file.toml"));
}

#[test]
fn beyond_loopback_either_tokens_or_insecure_is_needed() {
    let open = "http = \"[::]:8080\"";
    assert!(Config::from_toml(open).is_err());
    assert!(Config::from_toml(&format!("{open}\ninsecure = true")).is_ok());
    assert!(Config::from_toml(&format!("{open}\ninsecure = false")).is_err());
    assert!(Config::from_toml(&format!("{open}\ntoken_file = \"t.toml\"")).is_ok());
    assert!(Config::from_toml("http = \"[::1]:8080\"").is_ok());
}

#[test]
fn flags_give_every_kind_of_value() {
    let load = |arguments: &str| {
        let words = ["antiphon"].into_iter().chain(arguments.split(' '));
        Config::load(words.map(OsString::from)).expect(arguments)
    };
    let config = load("serve --announce 192.0.2.1 2001:db8::1 --insecure --http 0.0.0.0:81");
    assert_eq!(config.announce.len(), 2);
    assert_eq!(config.http.port(), 81);
    let config = load("--announce 192.0.2.1,192.0.2.2 --announce 192.0.2.3 --tls-self-signed");
    assert_eq!(
        (config.announce.len(), config.tls),
        (3, TlsChoice::SelfSigned)
    );
    let config = load("--insecure=false --runtime smol --drain-seconds 3 --log-format json serve");
    assert_eq!(
        (config.runtime, config.log_format),
        (RuntimeChoice::Smol, LogFormat::Json)
    );
    assert_eq!(config.drain.as_secs(), 3);
    let config = load("--voice-quality economy");
    assert_eq!(config.voice_quality, VoiceQuality::Economy);
    let config = load("--runtime glommio --max-coalesce 0");
    assert_eq!(
        (config.runtime, config.max_coalesce),
        (RuntimeChoice::Glommio, Duration::ZERO)
    );
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = Config::from_toml("").expect("nothing is needed");
    assert_eq!(config.http.to_string(), "127.0.0.1:8080");
    assert_eq!(
        (config.media_ip.to_string().as_str(), config.media_port),
        ("::", 40_000)
    );
    assert_eq!(
        (config.runtime, config.log_format),
        (RuntimeChoice::Auto, LogFormat::Text)
    );
    assert_eq!((config.tls, config.announce.len()), (TlsChoice::Off, 0));
    assert_eq!(config.max_coalesce, Duration::from_micros(500));
    assert_eq!(config.voice_quality, VoiceQuality::Standard);
}

/// The example documents every option; uncommented, it is a valid file of the defaults.
#[test]
fn the_example_file_names_every_option_and_is_valid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/antiphon.example.toml");
    let example = std::fs::read_to_string(path).expect("the example exists");
    Config::from_toml(&example).expect("as it is");
    let options = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|rest| !rest.starts_with(' '))
    };
    let uncommented: Vec<String> = example
        .lines()
        .map(|line| {
            if options(line) {
                line[1..].to_owned()
            } else {
                line.to_owned()
            }
        })
        .filter(|line| !line.starts_with("tls_self_signed"))
        .collect();
    Config::from_toml(&uncommented.join("\n")).expect("with every option set");
    let help = String::from_utf8(antiphon(&["--help"], &[]).stdout).expect("text");
    for flag in help.split("--").skip(1) {
        let name: String = flag
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '-')
            .collect();
        let key = name.trim_end_matches('-').replace('-', "_");
        if !["help", "version", "config", ""].contains(&key.as_str()) {
            assert!(
                example.contains(&format!("#{key} = ")),
                "{key} is not in the example"
            );
        }
    }
}
