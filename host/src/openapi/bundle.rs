//! Documents in several files, made one.
//!
//! What a reference to another file names is put into the document itself, under a key of our own, and the reference then leads there.
//! Which files may be read is for the caller to say; hosts are never asked.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::notes::Notes;
use super::read::{Document, MAX_BYTES, tree};

/// Where the other files stand in the document.
const KEY: &str = "x-sentinel-files";
/// Most other files of one document.
const MAX_FILES: usize = 500;

/// Puts every file that the document refers to into it. `load` gives the text of a file by its path, relative to the document with `/`
/// between, or says why not.
pub fn bundle(document: &mut Document, load: &mut dyn FnMut(&str) -> Result<String, String>) -> Notes {
    let mut notes = Notes::default();
    let mut files: BTreeMap<String, Value> = BTreeMap::new();
    let mut wanted = Vec::new();
    rewrite(&mut document.root, "", &mut wanted);
    let mut bytes = 0;
    while let Some(path) = wanted.pop() {
        if files.contains_key(&path) {
            continue;
        }
        let read = match load(&path) {
            _ if files.len() >= MAX_FILES => {
                Err(format!("the document refers to more than {MAX_FILES} files"))
            }
            Ok(text) if bytes + text.len() > MAX_BYTES => {
                Err(format!("its files have more than {MAX_BYTES} bytes together"))
            }
            Ok(text) => {
                bytes += text.len();
                tree(&text).map_err(|error| error.to_string())
            }
            Err(why) => Err(why),
        };
        // A file that is not there leaves an empty place, at which references then find nothing.
        let mut value = read.unwrap_or_else(|why| {
            notes.add(&path, format!("another file is not read: {why}"));
            Value::Null
        });
        rewrite(&mut value, &path, &mut wanted);
        files.insert(path, value);
    }
    if let (false, Value::Object(root)) = (files.is_empty(), &mut document.root) {
        root.insert(KEY.to_owned(), Value::Object(files.into_iter().collect::<Map<_, _>>()));
    }
    notes
}

/// Leads the references of a file to where they are in the document; the files that they name are wanted.
fn rewrite(value: &mut Value, own: &str, wanted: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "$ref" => {
                        if let Some(new) = led(text, own, wanted) {
                            *text = new;
                        }
                    }
                    value => rewrite(value, own, wanted),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rewrite(value, own, wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The new text of a reference; none if it stays.
fn led(reference: &str, own: &str, wanted: &mut Vec<String>) -> Option<String> {
    let (file, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let path = if file.is_empty() {
        if own.is_empty() {
            return None;
        }
        own.to_owned()
    } else {
        let path = resolved(own, file)?;
        wanted.push(path.clone());
        path
    };
    let escaped = path.replace('~', "~0").replace('/', "~1").replace('%', "%25");
    Some(format!("#/{KEY}/{escaped}{fragment}"))
}

/// A path beside the file that names it, without leaving the folder of the document; none for anything else.
fn resolved(own: &str, file: &str) -> Option<String> {
    let foreign = file.contains([':', '\\', '?']) || file.starts_with('/');
    if foreign || file.len() > 500 {
        return None;
    }
    let mut parts: Vec<&str> = own.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::openapi::{operations, read};

    #[test]
    fn files_are_read_once_and_lead_to_each_other() {
        let main = r#"{"openapi": "3.1.0", "paths": {"/a": {"$ref": "paths/a.yaml"}, "/b": {"get": {"operationId": "b", "parameters": [
            {"name": "q", "in": "query", "schema": {"$ref": "http://169.254.169.254/latest"}}]}}}}"#;
        let load = |path: &str| {
            match path {
                "paths/a.yaml" => Ok("put: {operationId: a, requestBody: {content: {application/json: {schema: {$ref: '../schemas.json#/Node'}}}}}".to_owned()),
                "schemas.json" => Ok(r##"{"Node": {"properties": {"next": {"$ref": "#/Node"}, "other": {"$ref": "gone.json#/X"}}}}"##.to_owned()),
                _ => Err("it is not there".to_owned()),
        }
        };
        let mut document = read(main).unwrap();
        let mut asked = Vec::new();
        let notes = bundle(&mut document, &mut |path| {
            asked.push(path.to_owned());
            load(path)
        });
        let notes = notes.to_string();
        assert_eq!(asked, ["paths/a.yaml", "schemas.json", "gone.json"]);
        assert!(notes.contains("it is not there (gone.json)"), "{notes}");
        let imported = operations(&document);
        assert!(imported.notes.to_string().contains("nothing stands at"), "{}", imported.notes);
        assert!(
            imported.notes.to_string().contains("http://169.254.169.254/latest refers to"),
            "{}",
            imported.notes
        );

        let mut document = read(main).unwrap();
        bundle(&mut document, &mut |path| match path {
            "schemas.json" => Ok(r##"{"Node": {"properties": {"next": {"$ref": "#/Node"}}}}"##.to_owned()),
            path => load(path),
        });
        let imported = operations(&document);
        let schema = imported.operations[0].body.as_ref().unwrap().content[0].schema.clone().unwrap();
        assert_eq!(schema["$defs"]["Node"]["properties"]["next"]["$ref"], "#/$defs/Node");
    }

    #[test]
    fn no_path_leaves_the_folder() {
        for (own, file, expected) in [
            ("", "a/b.yaml", Some("a/b.yaml")),
            ("a/b.yaml", "./c.yaml", Some("a/c.yaml")),
            ("a/b.yaml", "../c.yaml", Some("c.yaml")),
            ("a/b.yaml", "../../c.yaml", None),
            ("", "../c.yaml", None),
            ("", "/etc/passwd", None),
            ("", "file:///etc/passwd", None),
            ("", "https://example.org/a.yaml", None),
            ("", "..\\c.yaml", None),
        ] {
            assert_eq!(resolved(own, file).as_deref(), expected, "{own} {file}");
        }
    }
}
