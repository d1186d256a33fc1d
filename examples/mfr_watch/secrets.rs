//! URIs, and texts that quote them, without their credentials. Where it cannot be told what is a password, too much is
//! hidden rather than too little.

/// What replaces the value of a parameter that is a credential.
pub const HIDDEN: &str = "***";

/// Parts and ends of the names of parameters whose values are credentials, in lower case.
const SECRET_PARTS: [&str; 9] = [
    "pass",
    "pwd",
    "psw",
    "token",
    "secret",
    "auth",
    "credential",
    "signature",
    "session",
];
const SECRET_ENDS: [&str; 8] = ["pw", "pas", "psk", "pin", "key", "sig", "sid", "jwt"];
/// Parts of the names of parameters that hold a user.
const USER_PARTS: [&str; 3] = ["user", "usr", "login"];
/// Other parameters that cameras put into the path, as in `user=admin_password=x_channel=1_stream=0.sdp`.
const CAMERA_PARAMETERS: [&str; 2] = ["channel", "stream"];

/// A source without its credentials, and these as an error may quote them: as they stand there, percent-decoded, and the
/// pieces into which a parser splits a password that holds the delimiters of URIs.
pub fn redact_source(source: &str) -> (String, Vec<String>) {
    let mut credentials = Vec::new();
    let redacted = redact(source, &mut credentials);
    let mut quoted = Vec::new();
    for credential in credentials {
        for form in [percent_decoded(&credential), credential] {
            let pieces = form.split(['/', '?', '#', '@', ':', '&', ' ']);
            quoted.extend(pieces.map(str::to_owned));
            quoted.push(form);
        }
    }
    // Shorter ones are parts of ordinary words.
    quoted.retain(|piece| piece.chars().count() >= 3 && piece != HIDDEN);
    // The longest first, of which others may be parts.
    quoted.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    quoted.dedup();
    (redacted, quoted)
}

/// A text without the credentials of the URIs that are words of it.
pub fn redact_text(text: &str) -> String {
    let words = text.split_inclusive(char::is_whitespace);
    words.map(|word| redact(word, &mut Vec::new())).collect()
}

/// A URI without its user and password and with [`HIDDEN`] for parameters that are credentials, which are added to
/// `credentials` as they stand there.
fn redact(uri: &str, credentials: &mut Vec<String>) -> String {
    let (scheme, rest) = match uri.find("://") {
        Some(colon) => uri.split_at(colon + "://".len()),
        None => ("", uri),
    };
    // A proxy may be given the whole URI of a camera as a parameter.
    let decoded = percent_decoded(rest);
    let rest = match decoded.contains("://") {
        true => &decoded,
        false => rest,
    };
    let host = match user_info(rest) {
        Some(at) if !scheme.is_empty() || rest[..at].contains(':') => {
            let password = rest[..at].split_once(':');
            credentials.extend(password.map(|(_, password)| password.to_owned()));
            at + 1
        }
        _ => 0,
    };
    scheme.to_owned() + &redact_parameters(&rest[host..], credentials)
}

/// The index of the @ that ends user and password. A password that is not percent-encoded may hold any character, so it is
/// the last one, unless nothing before it can be a password.
fn user_info(rest: &str) -> Option<usize> {
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let last = rest.rfind('@')?;
    let is_password = !rest.starts_with('[') && rest[..last].contains(':');
    match is_password || last < authority {
        true => Some(last),
        false => rest[..authority].rfind('@'),
    }
}

fn redact_parameters(uri: &str, credentials: &mut Vec<String>) -> String {
    let mut result = String::new();
    let mut rest = uri;
    while let Some(equals) = rest.find('=') {
        let name = rest[..equals]
            .rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
            .next()
            .unwrap_or_default();
        result.push_str(&rest[..=equals]);
        let hidden = match is_secret(name) || is_user(name) {
            true => value_end(&rest[equals + 1..]),
            false => 0,
        };
        let (value, others) = rest[equals + 1..].split_at(hidden);
        if is_secret(name) {
            credentials.push(value.to_owned());
        }
        if hidden > 0 {
            result.push_str(HIDDEN);
        }
        rest = others;
    }
    result + rest
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| name.contains(part))
        || SECRET_ENDS.iter().any(|end| name.ends_with(end))
}

fn is_user(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    USER_PARTS.iter().any(|part| name.contains(part))
}

/// Where the value of a parameter ends: at `&`, as it may hold any other character, or where `_name=` begins another known
/// parameter. An unknown name does not end it, since a token in base64url may hold `_` and end with `=`.
fn value_end(text: &str) -> usize {
    let end = text.find('&').unwrap_or(text.trim_end().len());
    let next = text[..end].match_indices('=').find_map(|(equals, _)| {
        let underscore = text[..equals].rfind('_')?;
        let name = &text[underscore + 1..equals];
        let is_known = is_secret(name) || is_user(name) || CAMERA_PARAMETERS.contains(&name);
        is_known.then_some(underscore)
    });
    next.unwrap_or(end)
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let code = (bytes[i] == b'%')
            .then(|| text.get(i + 1..i + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(code.unwrap_or(bytes[i]));
        i += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_credential_stays() {
        for (uri, expected) in [
            ("rtsp://host/live", "rtsp://host/live"),
            ("rtsp://user:pass@host/live", "rtsp://host/live"),
            ("rtsp://user:p@ss@host:554/live", "rtsp://host:554/live"),
            ("RTSP://user:12/34@[::1]:554/a", "RTSP://[::1]:554/a"),
            ("rtsp://user@host/", "rtsp://host/"),
            // No password can stand before this @.
            ("https://host/@channel/live", "https://host/@channel/live"),
            ("rtsp://[::1]:554/a@b", "rtsp://[::1]:554/a@b"),
            (
                "http://h/v?user=ana&password=geheim&x=1",
                "http://h/v?user=***&password=***&x=1",
            ),
            (
                "http://h/v?access_token=a_b/c==&x=1",
                "http://h/v?access_token=***&x=1",
            ),
            ("http://h/?accessToken=a", "http://h/?accessToken=***"),
            ("http://h/?size=1&api-key=2", "http://h/?size=1&api-key=***"),
            (
                "http://h/?loginuse=a&loginpas=b",
                "http://h/?loginuse=***&loginpas=***",
            ),
            (
                "rtsp://h:554/user=admin_password=tl_Jw_channel=1_stream=0.sdp",
                "rtsp://h:554/user=***_password=***_channel=1_stream=0.sdp",
            ),
            ("user:geheim@host/live", "host/live"),
            ("/dev/video0", "/dev/video0"),
            ("a@b", "a@b"),
            // Nothing to hide.
            ("http://h/?password=&x=1", "http://h/?password=&x=1"),
        ] {
            assert_eq!(redact_source(uri).0, expected, "{uri}");
            assert_eq!(
                redact_text(&format!("cannot open {uri} now")),
                format!("cannot open {expected} now")
            );
        }
    }

    /// URIs in many forms, in which every piece of a credential begins with `s3`, and which name the host `cam`.
    fn uris() -> Vec<String> {
        let passwords = [
            "s3a",
            "s3a/s3b",
            "s3a@s3b",
            "s3a:s3b",
            "s3a#s3b",
            "s3a?s3b",
            "s3a&s3b",
            "s3a=s3b",
            "s3a/s3b@s3c:s3d#s3e?s3f",
            "s3a%2Fs3b%40s3c",
            "s3ä%C3%A4%",
            "s3a s3b",
            "",
        ];
        let mut uris = Vec::new();
        for scheme in ["rtsp://", "RTSP://", "rtsps://", "http://", "v4l2://", ""] {
            for host in ["cam", "cam:554", "cam.example.com:8080"] {
                for password in passwords {
                    uris.push(format!("{scheme}ana:{password}@{host}/live"));
                    uris.push(format!("{scheme}ana:{password}@{host}"));
                    uris.push(format!("{scheme}:{password}@{host}/?token=s3y"));
                    if password.contains(['&', '@']) {
                        // In a query these must be percent-encoded.
                        continue;
                    }
                    for name in ["password", "PWD", "pw", "token", "X-Auth-Token", "apiKey"] {
                        for before in ["?", "?x=1&", "user=ana&", "user=ana_"] {
                            uris.push(format!("{scheme}{host}/{before}{name}={password}"));
                            uris.push(format!("{scheme}{host}/{before}{name}={password}&y=1"));
                        }
                    }
                }
                uris.push(format!("{scheme}{host}/?src=rtsp%3A%2F%2Fana%3As3a%40cam"));
            }
        }
        uris.push("rtsp://ana:s3a@[fe80::1%25cam]:554/live".into());
        uris
    }

    #[test]
    fn no_form_of_a_uri_gives_a_password_away_and_all_name_the_host() {
        for uri in uris() {
            let (redacted, _) = redact_source(&uri);
            assert!(!redacted.contains("s3"), "{uri} became {redacted}");
            assert!(redacted.contains("cam"), "{uri} became {redacted}");
        }
    }

    #[test]
    fn credentials_are_known_as_they_stand_decoded_and_in_pieces() {
        let (_, quoted) = redact_source("http://u:abc%2fdef@h/?token=t0k3n&pw=x");
        assert_eq!(quoted, ["abc%2fdef", "abc/def", "t0k3n", "abc", "def"]);
    }
}
