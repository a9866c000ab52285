//! Media types of a request and of its answer.

use axum::http::{HeaderMap, StatusCode, header};

use super::refusal::Refusal;
use crate::config::rest::{Body, Route, Target};
use crate::route::problem::Problem;

/// The media type of a body without its parameters, in lower case.
pub(super) fn essence(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Some(essence).filter(|essence| !essence.is_empty())
}

/// Whether a route takes a body of this type.
pub(super) fn takes(body: &Body, essence: &str) -> bool {
    body.content.iter().any(|known| matches(known, essence))
}

fn matches(range: &str, essence: &str) -> bool {
    range == "*/*"
        || range == essence
        || range.strip_suffix('*').is_some_and(|kind| essence.starts_with(kind))
}

/// Refuses a request that accepts nothing of what the route answers (RFC 9110, section 12.5.1).
pub(super) fn accept(route: &Route, headers: &HeaderMap) -> Result<(), Box<Refusal>> {
    let answers: Vec<&str> = match &route.target {
        Target::Engine { .. } => vec!["application/json"],
        Target::Upstream { .. } => {
            let good = route.responses.iter().filter(|response| response.status.starts_with('2'));
            good.filter_map(|response| response.content.as_deref()).collect()
        }
    };
    let mut accepted =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if answers.is_empty() || accepted.peek().is_none() {
        return Ok(());
    }
    let ranges: Vec<(String, bool)> = accepted.flat_map(|text| text.split(',')).filter_map(range).collect();
    let fits = |answer: &&str| {
        // The most exact range decides.
        let fitting = ranges.iter().filter(|(range, _)| matches(range, answer));
        fitting
            .max_by_key(|(range, _)| (!range.ends_with('*'), range != "*/*"))
            .is_some_and(|(_, wanted)| *wanted)
    };
    if answers.iter().any(fits) {
        return Ok(());
    }
    let text = format!(
        "this route answers {}, and none of these is accepted: say so in `Accept`",
        answers.join(", ")
    );
    Err(Refusal::new(Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", text)))
}

/// A range of `Accept`, and whether it is wanted at all.
fn range(text: &str) -> Option<(String, bool)> {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next()?.to_ascii_lowercase();
    let zero = |part: &str| {
        let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="))?;
        Some(weight.trim().parse().is_ok_and(|weight: f32| weight <= 0.0))
    };
    let unwanted = parts.find_map(zero).unwrap_or(false);
    (!range.is_empty()).then_some((range, !unwanted))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::config::rest::Described;

    fn accepts(accept: &str) -> bool {
        let mut route = crate::route::sample("GET", "/a");
        let described = |status: &str, content: &str| Described {
            status: status.to_owned(),
            description: None,
            content: Some(content.to_owned()),
            schema: None,
        };
        route.responses = vec![described("200", "application/json"), described("404", "text/html")];
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        super::accept(&route, &headers).is_ok()
    }

    #[test]
    fn what_is_accepted_is_what_the_client_says() {
        for accept in [
            "*/*",
            "application/json",
            "application/*;q=0.1",
            "text/html, */*;q=0.1",
            "APPLICATION/JSON",
            "text/html;q=0, application/json",
            "application/json;q=0.001",
        ] {
            assert!(accepts(accept), "{accept}");
        }
        for accept in
            ["text/html", "image/*", "application/json;q=0", "*/*;q=0", "application/json;q=0.000, */*"]
        {
            assert!(!accepts(accept), "{accept}");
        }
    }
}
