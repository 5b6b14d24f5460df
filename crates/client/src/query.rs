//! Parameters of queries.

use serde::Serialize;
use serde_json::Value;
use url::form_urlencoded::Serializer;

use crate::ClientError;

/// The path with the parameters that `query` gives.
pub(crate) fn with_query(path: &str, query: &impl Serialize) -> Result<String, ClientError> {
    let given = serde_json::to_value(query).map_err(ClientError::Request)?;
    let mut parameters = Serializer::new(String::new());
    for (name, value) in given.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::String(text) => {
                parameters.append_pair(name, text);
            }
            other => {
                parameters.append_pair(name, &other.to_string());
            }
        }
    }
    let parameters = parameters.finish();
    Ok(if parameters.is_empty() { path.to_owned() } else { format!("{path}?{parameters}") })
}

#[cfg(test)]
mod tests {
    use postrider_api::Limit;
    use postrider_api::queue::{LaneOrder, LanesQuery};
    use postrider_api::subscriber::SubscribersQuery;

    use super::*;

    #[test]
    fn parameters_that_are_given_follow_the_path() {
        let none = with_query("/v1/queue/lanes", &LanesQuery::default()).unwrap();
        assert_eq!(none, "/v1/queue/lanes");
        let (order, limit) = (Some(LaneOrder::Age), Limit::new(5).ok());
        let lanes = LanesQuery { order, limit, ..LanesQuery::default() };
        assert_eq!(with_query("/v1/queue/lanes", &lanes).unwrap(), "/v1/queue/lanes?limit=5&order=age");
        let url = "a&b ü".to_owned().try_into().ok();
        let found = with_query("/v1/subscribers", &SubscribersQuery { url, ..SubscribersQuery::default() });
        assert_eq!(found.unwrap(), "/v1/subscribers?url=a%26b+%C3%BC");
    }
}
