//! The query string: the state of a page, under the API's names.

use std::fmt;

use url::form_urlencoded;

/// The parameters of a query string, in order. Empty ones, as forms send them, are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

/// The most parameters that are read.
const MOST: usize = 64;

impl Query {
    /// Reads a query string, or the body of a form.
    pub(crate) fn read(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text).take(MOST);
        let pairs = pairs.filter(|(_, value)| !value.trim().is_empty());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.trim().to_owned())).collect())
    }

    /// Returns the first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Returns all values of a parameter.
    #[allow(dead_code, reason = "for the screens that are to come")]
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Returns these parameters only.
    pub(crate) fn only(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|(name, _)| names.contains(&name.as_str())).cloned().collect())
    }

    /// Returns the query without a parameter.
    pub(crate) fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(given, _)| given != name).cloned().collect())
    }

    /// Returns the query with one value for a parameter.
    pub(crate) fn with(&self, name: &str, value: impl fmt::Display) -> Self {
        let mut query = self.without(name);
        query.0.push((name.to_owned(), value.to_string()));
        query
    }

    /// Returns the query with one more value for a parameter.
    pub(crate) fn and(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.0.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns `path` with this query.
    pub(crate) fn after(&self, path: &str) -> String {
        if self.is_empty() { path.to_owned() } else { format!("{path}?{self}") }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(self.pairs()).finish();
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_changed_and_written() {
        let query = Query::read(b"status=dead&event=&since=2026-01-01T00%3A00%3A00%2B01%3A00&x=%20a%26b ");
        assert_eq!(query.get("status"), Some("dead"));
        assert_eq!(query.get("event"), None, "forms send empty fields");
        assert_eq!(query.get("x"), Some("a&b"));
        assert_eq!(query.only(&["status"]).to_string(), "status=dead");
        assert_eq!(
            query.only(&["status", "x"]).with("status", "pending").to_string(),
            "x=a%26b&status=pending"
        );
        assert_eq!(Query::read(query.to_string().as_bytes()), query);
        assert_eq!(Query::default().after("a"), "a");
        assert_eq!(query.only(&["status"]).after("a"), "a?status=dead");
    }

    #[test]
    fn the_number_of_parameters_is_bounded() {
        let many = "a=1&".repeat(1000);
        assert_eq!(Query::read(many.as_bytes()).pairs().count(), MOST);
    }
}
