//! Signatures of requests: AWS Signature Version 4 for S3.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html>

use aws_lc_rs::hmac;
use berth_store::hash::sha256;
use data_encoding::HEXLOWER;

/// The payload's hash where it is not signed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Who signs, and for where.
pub(super) struct Keys {
    pub(super) access: String,
    pub(super) secret: String,
    /// Of temporary credentials; empty for others.
    pub(super) token: String,
    pub(super) region: String,
}

/// A request as far as its signature is concerned.
pub(super) struct Target<'t> {
    pub(super) method: &'t str,
    /// With its port, as the `Host` header has it.
    pub(super) host: &'t str,
    /// From the first slash, encoded.
    pub(super) path: &'t str,
    /// Names and values, not encoded.
    pub(super) query: &'t [(&'t str, &'t str)],
}

/// `20130524T000000Z`, now.
pub(super) fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string()
}

/// Everything but letters, digits and `-._~` as `%XX`; a slash stays where `keep_slash`.
pub(super) fn encode(text: &str, keep_slash: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            b'/' if keep_slash => encoded.push('/'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A query as it is sent and signed: encoded, sorted.
pub(super) fn query_text(query: &[(&str, &str)]) -> String {
    let mut pairs: Vec<_> = query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name, false), encode(value, false)))
        .collect();
    pairs.sort();
    pairs.join("&")
}

impl Keys {
    /// The headers that a request at `time` with a payload of this hash (hexadecimal SHA-256) needs.
    pub(super) fn headers(
        &self,
        target: &Target,
        time: &str,
        payload: &str,
    ) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("host", target.host.to_owned()),
            ("x-amz-content-sha256", payload.to_owned()),
            ("x-amz-date", time.to_owned()),
        ];
        if !self.token.is_empty() {
            headers.push(("x-amz-security-token", self.token.clone()));
        }
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let signature = self.signature(target, target.query, &lines, &names, time, payload);
        let credential = format!("{}/{}", self.access, self.scope(time));
        headers.push((
            "authorization",
            format!(
                "AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={names},Signature={signature}"
            ),
        ));
        // It is the client's to send.
        headers.remove(0);
        headers
    }

    /// The query of an address that is good for `lifetime` seconds from `time`.
    pub(super) fn presign(&self, target: &Target, time: &str, lifetime: i64) -> String {
        let credential = format!("{}/{}", self.access, self.scope(time));
        let lifetime = lifetime.to_string();
        let mut query = target.query.to_vec();
        query.extend([
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", time),
            ("X-Amz-Expires", &lifetime),
            ("X-Amz-SignedHeaders", "host"),
        ]);
        if !self.token.is_empty() {
            query.push(("X-Amz-Security-Token", &self.token));
        }
        let lines = format!("host:{}\n", target.host);
        let signature = self.signature(target, &query, &lines, "host", time, UNSIGNED);
        format!("{}&X-Amz-Signature={signature}", query_text(&query))
    }

    fn scope(&self, time: &str) -> String {
        format!("{}/{}/s3/aws4_request", day(time), self.region)
    }

    fn signature(
        &self,
        target: &Target,
        query: &[(&str, &str)],
        headers: &str,
        names: &str,
        time: &str,
        payload: &str,
    ) -> String {
        let request = format!(
            "{}\n{}\n{}\n{headers}\n{names}\n{payload}",
            target.method,
            target.path,
            query_text(query)
        );
        let text = format!(
            "AWS4-HMAC-SHA256\n{time}\n{}\n{}",
            self.scope(time),
            sha256(request.as_bytes()).hex()
        );
        let mut key = mac(format!("AWS4{}", self.secret).as_bytes(), day(time));
        for part in [self.region.as_str(), "s3", "aws4_request"] {
            key = mac(key.as_ref(), part);
        }
        HEXLOWER.encode(mac(key.as_ref(), &text).as_ref())
    }
}

fn day(time: &str) -> &str {
    time.get(..8).unwrap_or(time)
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys {
            access: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            token: String::new(),
            region: "us-east-1".into(),
        }
    }

    /// Amazon's own examples: "Authenticating Requests (AWS Signature Version 4)".
    #[test]
    fn signatures_are_those_that_amazon_documents() {
        let target = Target {
            method: "GET",
            host: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            query: &[],
        };
        let query = keys().presign(&target, "20130524T000000Z", 86400);
        assert!(
            query.ends_with(
                "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
            ),
            "{query}"
        );
        let listing = Target {
            path: "/",
            query: &[("prefix", "J"), ("max-keys", "2")],
            ..target
        };
        let empty = sha256(b"").hex().to_owned();
        let headers = keys().headers(&listing, "20130524T000000Z", &empty);
        let (_, authorization) = headers.last().unwrap();
        assert!(
            authorization.ends_with(
                "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
            ),
            "{authorization}"
        );
    }

    #[test]
    fn names_are_encoded_byte_by_byte() {
        assert_eq!(encode("a b/ü", true), "a%20b/%C3%BC");
        assert_eq!(encode("a/b", false), "a%2Fb");
    }
}
