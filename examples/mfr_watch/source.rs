//! Where a video comes from, and what may be printed of it.

use std::path::Path;

use anyhow::Context;
use gst::glib;

use crate::secrets;

/// A file, a camera, or a URI.
pub struct Source {
    /// As the user has written it. It is resolved at each attempt: a camera may be plugged in later, and
    /// `/dev/v4l/by-id/…` may then be a link to another device.
    text: String,
    /// The same without passwords.
    pub name: String,
    /// The passwords as an error may quote them.
    secrets: Vec<String>,
}

impl Source {
    pub fn new(text: &str) -> Self {
        let (name, secrets) = match Path::new(text).exists() {
            // The name of a file may look like anything.
            true => (text.to_owned(), Vec::new()),
            false => secrets::redact_source(text),
        };
        Self {
            text: text.to_owned(),
            name,
            secrets,
        }
    }

    fn is_uri(&self) -> bool {
        self.text.contains("://")
    }

    /// Whether the source has an end. Any other is connected again when it fails or ends.
    pub fn is_file(&self) -> bool {
        match self.is_uri() {
            true => self.text.starts_with("file:"),
            false => !self.text.starts_with("/dev/"),
        }
    }

    /// The URI, or why there is none for now.
    ///
    /// # Errors
    ///
    /// What another attempt would not mend: a file that is missing, a path that is no URI.
    pub fn uri(&self) -> anyhow::Result<Result<String, String>> {
        if self.is_uri() {
            return Ok(Ok(self.text.clone()));
        }
        // GStreamer's own message for a missing file names a URI, with every space as %20.
        let path = match Path::new(&self.text).canonicalize() {
            Ok(path) => path,
            Err(error) if self.is_file() => return Err(error.into()),
            Err(error) => return Ok(Err(error.to_string())),
        };
        Ok(Ok(match path.to_str() {
            Some(path) if !self.is_file() => format!("v4l2://{path}"),
            _ => glib::filename_to_uri(&path, None)
                .context("the path is no URI")?
                .into(),
        }))
    }

    /// A text about the source, with its name and without its passwords.
    pub fn describe(&self, text: &str) -> String {
        let mut text = text.replace(&self.text, &self.name);
        for secret in &self.secrets {
            text = text.replace(secret, secrets::HIDDEN);
        }
        format!("{}: {}", self.name, secrets::redact_text(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_quote_a_uri_or_parts_of_it_do_not_give_passwords_away() {
        for uri in [
            "rtsp://ana:pa%2Fss@10.0.0.2/live?token=t0k3n",
            "rtsp://ana:pa/ss t0k3n@10.0.0.2/live",
            "ana:pa/ss:t0k3n@10.0.0.2/live",
        ] {
            let source = Source::new(uri);
            for text in [
                format!("Could not open {uri}"),
                format!("connection to {uri}&x=1 failed"),
                "URL: rtsp://ana:pa%2Fss@10.0.0.2:554/live?token=t0k3n, Redirect to: (NULL)".into(),
                "password t0k3n was refused".into(),
                "no host named t0k3n@10.0.0.2".into(),
            ] {
                let told = source.describe(&text);
                assert!(told.starts_with(&format!("{}: ", source.name)), "{told}");
                assert!(told.contains("10.0.0.2/live"), "{told}");
                assert!(!told.contains("t0k3n"), "{uri}: {told}");
            }
        }
    }

    #[test]
    fn a_file_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("user=a&pass=b@c.mp4");
        std::fs::write(&path, "").unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(Source::new(path).name, path);
    }

    #[test]
    fn a_missing_file_is_an_error_and_a_missing_camera_may_come() {
        assert!(Source::new("/no/such/clip.mp4").uri().is_err());
        let camera = Source::new("/dev/v4l/by-id/usb-no-such-camera");
        assert!(!camera.is_file());
        assert!(camera.uri().unwrap().is_err());
        let uri = Source::new("rtsp://host/").uri().unwrap();
        assert_eq!(uri.as_deref(), Ok("rtsp://host/"));
    }
}
