//! What is behind an error of the HTTP client.

use std::error::Error;
use std::io;

/// Returns whether an error says that the connection was closed or lost, and not that it carried something invalid.
pub(crate) fn is_closed(error: &hyper::Error) -> bool {
    !error.is_parse()
        && !error.is_user()
        && (cause::<io::Error>(error).is_some()
            || error.is_incomplete_message()
            || error.is_closed()
            || error.is_canceled()
            || error.is_timeout())
}

/// Returns the first cause of type `T`.
pub(crate) fn cause<T: Error + 'static>(error: &dyn Error) -> Option<&T> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
