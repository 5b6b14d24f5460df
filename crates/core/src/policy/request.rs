//! What requests to a subscriber look like: their method, and whether their bodies are compressed.

use crate::word::words;

words! {
    /// The HTTP method of a subscriber's requests.
    RequestMethod, "an HTTP method" {
        /// `POST`, the default.
        Post = 0, "POST";
        /// `PUT`.
        Put = 1, "PUT";
        /// `PATCH`.
        Patch = 2, "PATCH";
        /// `GET`, without a body.
        Get = 3, "GET";
    }
}

impl RequestMethod {
    /// Returns whether requests have a body.
    pub const fn has_body(self) -> bool {
        !matches!(self, Self::Get)
    }
}

words! {
    /// How the bodies of a subscriber's requests are compressed.
    Compression, "a compression" {
        /// gzip (RFC 1952).
        Gzip = 0, "gzip";
    }
}
