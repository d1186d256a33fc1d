//! Texts without passwords.

/// What stands for a password.
pub const HIDDEN: &str = "***";

/// Names of parameters, in the query or the path of a URI, whose values are credentials; in lower case.
const SECRET_PARAMETERS: [&str; 17] = [
    "password",
    "passwd",
    "passphrase",
    "pass",
    "pwd",
    "pw",
    "psk",
    "token",
    "access_token",
    "auth",
    "apikey",
    "api_key",
    "key",
    "secret",
    "signature",
    "sig",
    "credential",
];
/// The same for names of users.
const USER_PARAMETERS: [&str; 4] = ["user", "username", "usr", "login"];

/// The text without the credentials in its URIs, and these as they stood there and decoded: users and passwords before a
/// host are left out, values of parameters become `***`.
pub fn without_secrets(text: &str) -> (String, Vec<String>) {
    let mut secrets = Vec::new();
    let words = text.split_inclusive(char::is_whitespace);
    let hidden = words
        .map(|word| {
            let Some((scheme, rest)) = word.split_once("://") else {
                return word.to_owned();
            };
            // Passwords hold any character, so the last @ counts: rather too much is hidden than too little.
            let rest = match rest.rfind('@') {
                Some(at) => {
                    if let Some((_, password)) = rest[..at].split_once(':') {
                        secrets.push(password.to_owned());
                    }
                    rest[at + 1..].to_owned()
                }
                None => rest.to_owned(),
            };
            format!("{scheme}://{}", without_parameters(&rest, &mut secrets))
        })
        .collect();
    let decoded = secrets.iter().map(|secret| percent_decoded(secret));
    let decoded: Vec<_> = decoded.collect();
    secrets.extend(decoded);
    // Shorter ones are parts of ordinary words.
    secrets.retain(|secret| secret.chars().count() >= 3 && secret != HIDDEN);
    // The longest first, of which others may be parts.
    secrets.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
    secrets.dedup();
    (hidden, secrets)
}

/// The rest of a URI, behind its scheme, with `***` for the values of parameters that are credentials.
fn without_parameters(uri: &str, secrets: &mut Vec<String>) -> String {
    let mut result = String::new();
    let mut rest = uri;
    while let Some(equals) = rest.find('=') {
        let name_start = rest[..equals]
            .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
            .map_or(0, |i| i + 1);
        let name = rest[name_start..equals]
            .to_ascii_lowercase()
            .replace('-', "_");
        result.push_str(&rest[..=equals]);
        rest = &rest[equals + 1..];
        let is_named = |names: &[&str]| {
            // Some cameras put parameters into the path: user=admin_password=secret_channel=1.
            names
                .iter()
                .any(|n| name == *n || name.ends_with(&format!("_{n}")))
        };
        let is_password = is_named(&SECRET_PARAMETERS);
        if is_password || is_named(&USER_PARAMETERS) {
            let end = value_end(rest);
            if is_password {
                secrets.push(rest[..end].to_owned());
            }
            result.push_str(HIDDEN);
            rest = &rest[end..];
        }
    }
    result + rest
}

/// Where the value of a parameter ends: at a separator, or where `_name=` begins the next parameter.
fn value_end(text: &str) -> usize {
    let separator = text.find(['&', ';', '#', '?', '"', '\'', '>', ')']);
    let end = separator.unwrap_or(text.trim_end().len());
    let next = text[..end]
        .find('=')
        .and_then(|equals| text[..equals].rfind('_'));
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
    fn credentials_are_hidden_wherever_they_stand() {
        for (uri, expected) in [
            ("rtsp://host/live", "rtsp://host/live"),
            ("rtsp://user:pass@host/live", "rtsp://host/live"),
            ("rtsp://user:pa/ss@host/live", "rtsp://host/live"),
            ("rtsp://user:p@ss@host:554/live", "rtsp://host:554/live"),
            ("rtsp://user:p?s#s@host/", "rtsp://host/"),
            ("RTSP://user:12/34@[::1]:554/a", "RTSP://[::1]:554/a"),
            ("rtsp://user@host/", "rtsp://host/"),
            (
                "http://h/v?user=ana&password=geheim&x=1",
                "http://h/v?user=***&password=***&x=1",
            ),
            ("http://h/v?PWD=a;b=2", "http://h/v?PWD=***;b=2"),
            (
                "http://h/v?access_token=a/b/c",
                "http://h/v?access_token=***",
            ),
            (
                "http://h/v?monkey=1&api-key=2",
                "http://h/v?monkey=1&api-key=***",
            ),
            (
                "rtsp://h:554/user=admin_password=tl_Jw_channel=1_stream=0.sdp",
                "rtsp://h:554/user=***_password=***_channel=1_stream=0.sdp",
            ),
            ("/dev/video0", "/dev/video0"),
            ("a@b: no such file", "a@b: no such file"),
        ] {
            assert_eq!(without_secrets(uri).0, expected, "{uri}");
            // Also in the midst of a sentence.
            let sentence = format!("cannot open {uri} now");
            assert_eq!(
                without_secrets(&sentence).0,
                format!("cannot open {expected} now")
            );
        }
    }

    #[test]
    fn the_replaced_credentials_are_known_as_written_and_decoded() {
        let (_, secrets) = without_secrets("http://u:pa%2fss@h/?token=t0k3n&pw=x");
        assert_eq!(secrets, ["pa%2fss", "pa/ss", "t0k3n"]);
    }
}
