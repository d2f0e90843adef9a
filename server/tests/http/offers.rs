//! Offers as browsers make them, cut to what matters.

/// A browser's credentials in every offer here.
pub(crate) const UFRAG: &str = "peer";
const PASSWORD: &str = "0123456789abcdefghijkl";

/// One media section: `audio` or `video`, its tag and its direction.
pub(crate) type Section<'a> = (&'a str, &'a str, &'a str);

/// An offer of these sections, as Chromium writes them.
pub(crate) fn offer(sections: &[Section<'_>]) -> String {
    with_lines(sections, &[])
}

/// The same, with more lines at the end of each section.
pub(crate) fn with_lines(sections: &[Section<'_>], lines: &[&str]) -> String {
    let mids: Vec<&str> = sections.iter().map(|section| section.1).collect();
    let mut text = vec![
        "v=0".to_owned(),
        "o=- 4611731400430051336 2 IN IP4 127.0.0.1".to_owned(),
        "s=-".to_owned(),
        "t=0 0".to_owned(),
        format!("a=group:BUNDLE {}", mids.join(" ")),
        "a=msid-semantic: WMS stream".to_owned(),
    ];
    for (kind, mid, direction) in sections {
        let (formats, maps): (&str, &[&str]) = match *kind {
            "audio" => (
                "111 0 8",
                &[
                    "a=rtpmap:111 opus/48000/2",
                    "a=fmtp:111 minptime=10;useinbandfec=1",
                    "a=rtpmap:0 PCMU/8000",
                    "a=rtpmap:8 PCMA/8000",
                ],
            ),
            _ => (
                "96 97 98",
                &[
                    "a=rtpmap:96 VP8/90000",
                    "a=rtcp-fb:96 nack",
                    "a=rtcp-fb:96 nack pli",
                    "a=rtpmap:97 rtx/90000",
                    "a=fmtp:97 apt=96",
                    "a=rtpmap:98 VP9/90000",
                    "a=fmtp:98 profile-id=0",
                ],
            ),
        };
        text.push(format!("m={kind} 9 UDP/TLS/RTP/SAVPF {formats}"));
        text.push("c=IN IP4 0.0.0.0".to_owned());
        text.push(format!("a=mid:{mid}"));
        text.push(format!("a=ice-ufrag:{UFRAG}"));
        text.push(format!("a=ice-pwd:{PASSWORD}"));
        text.push(format!("a=fingerprint:sha-256 {}", ["0A"; 32].join(":")));
        text.push("a=setup:actpass".to_owned());
        text.push(format!("a={direction}"));
        text.push("a=rtcp-mux".to_owned());
        text.push("a=rtcp-rsize".to_owned());
        text.extend(maps.iter().map(|line| (*line).to_owned()));
        text.extend(lines.iter().map(|line| (*line).to_owned()));
    }
    text.push(String::new());
    text.join("\r\n")
}

/// Microphone to the server.
pub(crate) fn sendonly() -> String {
    offer(&[("audio", "0", "sendonly")])
}

/// Microphone and camera to the server.
pub(crate) fn sendonly_video() -> String {
    offer(&[("audio", "0", "sendonly"), ("video", "1", "sendonly")])
}

/// Sound from the server.
pub(crate) fn recvonly() -> String {
    offer(&[("audio", "0", "recvonly")])
}

/// A call to oneself.
pub(crate) fn sendrecv() -> String {
    offer(&[("audio", "0", "sendrecv")])
}

/// A trickle fragment with a candidate, under these credentials.
pub(crate) fn fragment(ufrag: &str) -> String {
    let lines = [
        "a=group:BUNDLE 0".to_owned(),
        "m=audio 9 UDP/TLS/RTP/SAVPF 111".to_owned(),
        "a=mid:0".to_owned(),
        format!("a=ice-ufrag:{ufrag}"),
        format!("a=ice-pwd:{PASSWORD}"),
        "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host generation 0".to_owned(),
        "a=end-of-candidates".to_owned(),
        String::new(),
    ];
    lines.join("\r\n")
}
