//! The page: a few static files embedded in the binary, served as they are.
//!
//! There is no build step and no outside resource. The scripts are ES modules that the browser
//! loads from here, so a Content-Security-Policy of `'self'` is enough (see
//! [`CONTENT_SECURITY_POLICY`]).

/// Every file of the page: its path on the server, its content type, its bytes.
pub(crate) static FILES: &[(&str, &str, &[u8])] = &[
    ("/", HTML, include_bytes!("index.html")),
    ("/page.css", CSS, include_bytes!("page.css")),
    ("/favicon.svg", SVG, include_bytes!("favicon.svg")),
    ("/page/agent.js", JS, include_bytes!("agent.js")),
    ("/page/api.js", JS, include_bytes!("api.js")),
    ("/page/echo.js", JS, include_bytes!("echo.js")),
    ("/page/input.js", JS, include_bytes!("input.js")),
    ("/page/main.js", JS, include_bytes!("main.js")),
    ("/page/member.js", JS, include_bytes!("member.js")),
    ("/page/meter.js", JS, include_bytes!("meter.js")),
    ("/page/panel.js", JS, include_bytes!("panel.js")),
    ("/page/plot.js", JS, include_bytes!("plot.js")),
    ("/page/room.js", JS, include_bytes!("room.js")),
    ("/page/sampler.js", JS, include_bytes!("sampler.js")),
    ("/page/session.js", JS, include_bytes!("session.js")),
    ("/page/status.js", JS, include_bytes!("status.js")),
    ("/page/tabs.js", JS, include_bytes!("tabs.js")),
    ("/page/tile.js", JS, include_bytes!("tile.js")),
    ("/page/timeline.js", JS, include_bytes!("timeline.js")),
    ("/page/words.js", JS, include_bytes!("words.js")),
];

/// The `Content-Security-Policy` to send with the page: it loads and calls its own server only.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; img-src 'self'; connect-src 'self'; media-src 'self' blob:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const JS: &str = "text/javascript; charset=utf-8";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served_under_its_own_path() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page");
        let mut in_folder: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "mod.rs")
            .map(|name| match name.as_str() {
                "index.html" => "/".to_owned(),
                script if script.ends_with(".js") => format!("/page/{script}"),
                other => format!("/{other}"),
            })
            .collect();
        let mut served: Vec<String> = FILES.iter().map(|file| file.0.to_owned()).collect();
        in_folder.sort();
        served.sort();
        assert_eq!(served, in_folder);
    }

    #[test]
    fn the_page_asks_no_other_host_for_anything() {
        for (path, _, bytes) in FILES {
            let text = str::from_utf8(bytes).unwrap();
            let text = text
                .replace("http://www.w3.org/2000/svg", "")
                .replace("http://localhost", "");
            for scheme in ["http://", "https://", "wss://", "url(", "@import"] {
                assert!(!text.contains(scheme), "{path} mentions {scheme}");
            }
        }
    }

    #[test]
    fn every_script_imports_only_what_is_served() {
        for (path, _, bytes) in FILES.iter().filter(|file| file.0.ends_with(".js")) {
            for line in str::from_utf8(bytes).unwrap().lines() {
                let Some((_, name)) = line.split_once(" from './") else {
                    continue;
                };
                let wanted = format!("/page/{}", name.trim_end_matches("';"));
                assert!(
                    FILES.iter().any(|file| file.0 == wanted),
                    "{path} imports {wanted}"
                );
            }
        }
    }
}
