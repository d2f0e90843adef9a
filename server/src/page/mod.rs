//! The page: a few static files embedded in the binary, served as they are.

/// Every file of the page: its path on the server, its content type, its bytes.
pub(crate) static FILES: &[(&str, &str, &[u8])] = &[(
    "/",
    "text/html; charset=utf-8",
    include_bytes!("index.html"),
)];

/// The `Content-Security-Policy` to send with the page.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'";
