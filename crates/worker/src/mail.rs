//! Mail to the owners of subscribers, through an SMTP relay.

use std::fmt;

use postrider_core::EmailAddress;
use postrider_core::email::EmailAddressError;

#[cfg(feature = "email")]
use self::smtp::Relay;

/// Sends mail through an SMTP relay. Clones are cheap.
#[derive(Clone)]
pub struct Mailer {
    from: EmailAddress,
    #[cfg(feature = "email")]
    relay: Relay,
}

/// Why mail cannot be sent with these settings. The message contains no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailError {
    /// The relay's URL is invalid.
    #[error(
        "expected smtps://user:password@host, or smtp://user:password@host with `?tls=required` or `?tls=opportunistic`, and a port if need be"
    )]
    Url,
    /// The sender is no address of mail.
    #[error(transparent)]
    From(#[from] EmailAddressError),
    /// This build sends no mail.
    #[error("this program was built without the feature `email`, which sends mail")]
    Unavailable,
}

/// One message of plain text.
#[cfg_attr(not(feature = "email"), allow(dead_code, reason = "nothing sends it"))]
pub(crate) struct Message<'a> {
    pub(crate) to: &'a EmailAddress,
    /// The part of the `Message-ID` before the `@`. The same message has the same.
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) text: String,
}

/// Why a message was not sent. The message contains nothing that the relay said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(not(feature = "email"), allow(dead_code, reason = "nothing sends it"))]
pub(crate) enum NotSent {
    /// The relay has rejected it for good.
    #[error("the relay rejected the message for good")]
    Rejected,
    /// The relay could not be reached, or asked to try again later.
    #[error("the relay could not be reached, or asked to try again later")]
    ForNow,
}

impl Mailer {
    /// Makes a mailer for the relay at `url` that writes from `from`. It connects when it sends.
    ///
    /// # Errors
    /// Fails if the URL or the address is invalid, and always without the feature `email`.
    #[cfg(feature = "email")]
    pub fn new(url: &str, from: &str) -> Result<Self, MailError> {
        let from: EmailAddress = from.parse()?;
        Ok(Self { from, relay: Relay::new(url)? })
    }

    /// Fails: this build sends no mail.
    ///
    /// # Errors
    /// Fails with [`MailError::Unavailable`].
    #[cfg(not(feature = "email"))]
    pub fn new(_: &str, _: &str) -> Result<Self, MailError> {
        Err(MailError::Unavailable)
    }

    /// Sends a message.
    #[cfg(feature = "email")]
    pub(crate) async fn send(&self, message: Message<'_>) -> Result<(), NotSent> {
        self.relay.send(&self.from, message).await
    }

    #[cfg(not(feature = "email"))]
    pub(crate) async fn send(&self, message: Message<'_>) -> Result<(), NotSent> {
        let Message { to: _, id: _, subject: _, text: _ } = message;
        std::future::ready(Err(NotSent::ForNow)).await
    }
}

/// Shows the sender only: the relay's URL holds a password.
impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").field("from", &self.from).finish_non_exhaustive()
    }
}

#[cfg(feature = "email")]
mod smtp {
    use std::time::Duration;

    use lettre::message::header::ContentType;
    use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
    use postrider_core::EmailAddress;

    use super::{MailError, Message, NotSent};

    /// The time limit of each step of sending a message, and of all of it.
    const STEP: Duration = Duration::from_secs(10);
    const WHOLE: Duration = Duration::from_mins(1);

    #[derive(Clone)]
    pub(super) struct Relay(AsyncSmtpTransport<Tokio1Executor>);

    impl Relay {
        pub(super) fn new(url: &str) -> Result<Self, MailError> {
            // The error would show the URL.
            let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(|_| MailError::Url)?;
            Ok(Self(builder.timeout(Some(STEP)).build()))
        }

        pub(super) async fn send(&self, from: &EmailAddress, message: Message<'_>) -> Result<(), NotSent> {
            let Message { to, id, subject, text } = message;
            let host = from.as_str().split_once('@').map_or("localhost", |(_, host)| host);
            let built = (|| {
                lettre::Message::builder()
                    .from(from.as_str().parse().ok()?)
                    .to(to.as_str().parse().ok()?)
                    .message_id(Some(format!("<{id}@{host}>")))
                    .subject(subject)
                    .header(ContentType::TEXT_PLAIN)
                    .body(text)
                    .ok()
            })();
            let built = built.ok_or(NotSent::Rejected)?;
            match tokio::time::timeout(WHOLE, self.0.send(built)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) if error.is_permanent() => Err(NotSent::Rejected),
                Ok(Err(_)) | Err(_) => Err(NotSent::ForNow),
            }
        }
    }
}

#[cfg(all(test, feature = "email"))]
mod tests {
    use super::*;

    #[test]
    fn invalid_settings_are_rejected_without_the_password() {
        for (url, from, is_valid) in [
            ("smtps://user:s3cret@mail.example", "hooks@example.com", true),
            ("smtp://user:s3cret@mail.example:587?tls=required", "hooks@example.com", true),
            ("smtp://127.0.0.1:1025", "hooks@example.com", true),
            ("http://user:s3cret@mail.example", "hooks@example.com", false),
            ("s3cret", "hooks@example.com", false),
            ("smtps://mail.example", "Hooks <hooks@example.com>", false),
        ] {
            let made = Mailer::new(url, from);
            assert_eq!(made.is_ok(), is_valid, "{url} {from}");
            assert!(!format!("{made:?}").contains("s3cret"), "{made:?}");
        }
    }
}
