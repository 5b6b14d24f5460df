//! The names of formats.

use crate::word::words;

words! {
    /// The name of a format.
    FormatName, "a format" {
        /// The envelope.
        Postrider = 0, "postrider";
        /// Type, time and data after Standard Webhooks.
        Standard = 1, "standard";
        /// The data alone.
        Data = 2, "data";
        /// A CloudEvent in structured mode.
        CloudEvents = 3, "cloudevents";
        /// A CloudEvent in binary mode.
        CloudEventsBinary = 4, "cloudevents-binary";
        /// A message for an incoming webhook of Slack.
        Slack = 5, "slack";
        /// The fields of a form.
        Form = 6, "form";
    }
}
