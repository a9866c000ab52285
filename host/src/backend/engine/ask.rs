//! What an engine is asked: one JSON document, or arguments for a process that answers one call.

use serde_json::value::RawValue;

use crate::mcp::splice;

/// A call for an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// What it is to do.
    pub(crate) operation: &'a str,
    /// The arguments of the call: an object of `path`, `query`, `header`, `cookie` and `body`.
    pub(crate) arguments: &'a str,
    /// Who calls.
    pub(crate) subject: &'a str,
    /// The number of the call on record.
    pub(crate) request_id: &'a str,
}

/// Why the arguments of a process cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgError {
    /// The request does not say what the argument needs.
    #[error("the value of {0} is missing")]
    Missing(String),
    /// A value that a program could take for an option.
    #[error("the value of {0} begins with `-`, which a program could take for an option")]
    Option(String),
    /// A value that no argument can hold.
    #[error("the value of {0} holds a NUL")]
    Nul(String),
}

impl Ask<'_> {
    /// The document, with an id for a warm process. The body in it is as it was sent.
    pub(crate) fn document(&self, id: Option<u64>) -> String {
        let part = |name: &str| splice::get(self.arguments, name).unwrap_or("{}");
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let body = splice::get(self.arguments, "/body").unwrap_or("null");
        let mut document = String::with_capacity(self.arguments.len() + 192);
        document.push('{');
        if let Some(id) = id {
            document.push_str(&format!("\"id\":{id},"));
        }
        document.push_str("\"operation\":");
        document.push_str(&quoted(self.operation));
        for name in ["path", "query", "header"] {
            document.push_str(&format!(",\"{name}\":"));
            document.push_str(part(&format!("/{name}")));
        }
        document.push_str(",\"body\":");
        document.push_str(body);
        document.push_str(",\"subject\":");
        document.push_str(&quoted(self.subject));
        document.push_str(",\"request_id\":");
        document.push_str(&quoted(self.request_id));
        document.push('}');
        if id.is_some() && document.contains(['\n', '\r']) {
            // One line is one call: blanks between the parts of a JSON text may be left out.
            document = one_line(&document);
        }
        document
    }

    /// An argument with the values of the call.
    pub(crate) fn argument(&self, template: &str, input: Option<&str>) -> Result<String, ArgError> {
        let (mut out, mut rest) = (String::new(), template);
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            // The file was checked, so each brace has its end.
            let Some((name, after)) = after.split_once('}') else { break };
            rest = after;
            let value = match name {
                "operation" => self.operation.to_owned(),
                "subject" => self.subject.to_owned(),
                "request_id" => self.request_id.to_owned(),
                "input" => input.map(str::to_owned).ok_or_else(|| ArgError::Missing(name.to_owned()))?,
                _ => self.value(name).ok_or_else(|| ArgError::Missing(name.to_owned()))?,
            };
            if out.is_empty() && value.starts_with('-') {
                return Err(ArgError::Option(name.to_owned()));
            }
            if value.contains('\0') {
                return Err(ArgError::Nul(name.to_owned()));
            }
            out.push_str(&value);
        }
        out.push_str(rest);
        Ok(out)
    }

    /// The value of `path.NAME` and its like as text.
    fn value(&self, name: &str) -> Option<String> {
        let (place, name) = name.split_once('.')?;
        let name = name.replace('~', "~0").replace('/', "~1");
        let found = splice::get(self.arguments, &format!("/{place}/{name}"))?;
        serde_json::from_str::<serde_json::Value>(found).ok().map(|value| crate::route::read::plain(&value))
    }
}

/// The same JSON text without line breaks. Within strings there are none.
fn one_line(text: &str) -> String {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => text.replace(['\n', '\r'], " "),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const ASK: Ask<'_> = Ask {
        operation: "analyze",
        arguments: r#"{"path":{"id":"7 b","x":"-rf"},"query":{"limit":5,"a/b":"c"},"body":{"a":
            1.50}}"#,
        subject: "ann",
        request_id: "r1",
    };

    #[test]
    fn a_document_says_all_of_the_call_on_one_line() {
        let text = ASK.document(Some(3));
        assert!(!text.contains('\n'), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["id"], &value["operation"], &value["path"]["id"]),
            (&3.into(), &"analyze".into(), &"7 b".into())
        );
        assert_eq!((&value["header"], &value["subject"]), (&serde_json::json!({}), &"ann".into()));
        assert!(text.contains("1.50"), "numbers are as they were sent: {text}");
        assert!(!ASK.document(None).contains("\"id\":3"));
    }

    #[test]
    fn an_argument_is_one_argument_and_no_option() {
        let of = |template: &str| ASK.argument(template, Some("/tmp/in"));
        assert_eq!(of("--limit={query.limit}").unwrap(), "--limit=5");
        assert_eq!(of("{operation}/{path.id}").unwrap(), "analyze/7 b");
        assert_eq!(of("{query.a/b}{input}").unwrap(), "c/tmp/in");
        assert_eq!(of("plain").unwrap(), "plain");
        assert_eq!(of("--x={path.x}").unwrap(), "--x=-rf");
        assert_eq!(of("{path.x}"), Err(ArgError::Option("path.x".to_owned())));
        assert_eq!(of("{query.none}"), Err(ArgError::Missing("query.none".to_owned())));
    }
}
