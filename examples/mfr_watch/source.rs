//! Where a video comes from, and what may be printed of it.

use std::path::Path;

use anyhow::Context;
use gst::glib;

use crate::secrets;

/// A file, a camera, or a URI.
pub struct Source {
    /// As the user has written it. What it names is looked up at each attempt: a camera may be plugged in later, and
    /// `/dev/v4l/by-id/…` may then stand for another device.
    text: String,
    /// The same without passwords.
    pub name: String,
    /// The passwords, which must not be printed either where an error quotes them.
    secrets: Vec<String>,
}

impl Source {
    pub fn new(text: &str) -> Self {
        let (name, secrets) = secrets::without_secrets(text);
        Self {
            text: text.to_owned(),
            name,
            secrets,
        }
    }

    fn is_uri(&self) -> bool {
        self.text.contains("://")
    }

    /// Ends of its own; anything else goes on for ever, if need be after another attempt.
    pub fn is_file(&self) -> bool {
        match self.is_uri() {
            true => self.text.starts_with("file:"),
            false => !self.text.starts_with("/dev/"),
        }
    }

    /// The URI, or why there is none for now. An error is one that another attempt would not mend.
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
        format!("{}: {}", self.name, secrets::without_secrets(&text).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_quote_a_uri_or_parts_of_it_do_not_give_passwords_away() {
        let source = Source::new("rtsp://ana:pa%2Fss@10.0.0.2/live?token=t0k3n");
        for text in [
            "Could not open rtsp://ana:pa%2Fss@10.0.0.2/live?token=t0k3n",
            "connection to rtsp://ana:pa%2Fss@10.0.0.2:554/live?token=t0k3n&x=1 failed",
            "user ana with password pa/ss was refused (t0k3n)",
        ] {
            let told = source.describe(text);
            assert!(
                told.starts_with("rtsp://10.0.0.2/live?token=***: "),
                "{told}"
            );
            for secret in ["pa%2Fss", "pa/ss", "t0k3n"] {
                assert!(!told.contains(secret), "{told}");
            }
        }
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
